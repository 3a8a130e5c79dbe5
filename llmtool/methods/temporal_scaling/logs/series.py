"""Values at rising steps, made from rows in the order of the file: restarts mended, mixed runs refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted

Array = NDArray[np.float64]
MOST_RESTARTS = 20
MIXED = 5
"""So many steps back or repeated are no restarts if they leave half of the rows or less."""

STAIRS = 3
COARSE = 0.02
"""A rate that changes so often, always by one amount, which is at least this share of its peak, was rounded."""
PLATEAU = 1.5
"""A first or last level is one where it is this many times as long as the one beside it: 1.15 times on a cosine."""


@dataclass(frozen=True)
class Series:
    """Values at strictly rising steps."""

    steps: Array
    values: Array

    def __len__(self) -> int:
        return len(self.steps)

    def at(self, step: float) -> float:
        """The value at a step: between rows on a line, beyond the last at the growth of the last tenth of the rows."""
        if step <= self.steps[-1] or len(self) < 2:
            return float(np.interp(step, self.steps, self.values))
        tail = min(len(self) - 1, max(1, len(self) // 10))
        gaps = np.diff(self.steps[-tail - 1 :])
        growth = float(np.median(np.diff(self.values[-tail - 1 :]) / gaps))
        return float(self.values[-1] + growth * (step - self.steps[-1]))


def in_order(steps: Array, values: Array, name: str) -> tuple[Series, int]:
    """Rows of the log called `name` as a series, and how often the run was restarted."""
    kept, restarts = _last_wins(steps, name)
    return Series(steps[kept], values[kept]), restarts


def beside(steps: Array, values: Array) -> Series:
    """A quantity beside the losses, which may stand in several rows of one step: the last one counts."""
    keep = np.isfinite(steps) & np.isfinite(values) & (values >= 0)
    kept, _ = _last_wins(steps[keep], None)
    return Series(steps[keep][kept], values[keep][kept])


def matrix(rows: Sequence[tuple[int, list[float]]], x: Array, name: str, metric: str) -> Series:
    """Lists by position, each with the place of its record, as one series [steps, positions]."""
    rows = [row for row in rows if np.isfinite(x[row[0]])]
    kept, _ = _last_wins(np.array([x[place] for place, _ in rows]), name)
    widths = {len(rows[place][1]) for place in kept}
    if len(widths) > 1:
        raise UserError(f"per-position losses of {metric!r} have {min(widths)} to {max(widths)} positions", where=name)
    steps = np.array([x[rows[place][0]] for place in kept])
    return Series(steps, np.array([rows[place][1] for place in kept], dtype=np.float64))


def _last_wins(steps: Array, name: str | None) -> tuple[list[int], int]:
    """Places of the rows that count, in rising order of step, and how often the run was restarted.

    name: of the log, where steps out of order are refused.
    """
    kept: list[int] = []
    restarts = repeats = 0
    rising = steps.tolist()
    for place, step in enumerate(rising):
        if kept and step < rising[kept[-1]]:
            restarts += 1
        elif kept and step == rising[kept[-1]]:
            repeats += 1
        while kept and step <= rising[kept[-1]]:
            kept.pop()
        kept.append(place)
    many = restarts > max(MOST_RESTARTS, len(rising) // 20)
    if name is not None and (many or (restarts + repeats >= MIXED and 2 * len(kept) <= len(rising))):
        raise UserError(
            f"steps go back {counted(restarts, 'time')} and repeat {counted(repeats, 'time')} "
            f"in {len(rising)} rows: out of order, or several runs mixed",
            where=name,
            hint="one run a file, in order of step",
        )
    return kept, restarts


def unrounded(series: Series) -> Series:
    """A rate that was printed with so few digits that it goes down in steps, 0.0003, 0.0002, 0.0001, as it was before.

    It is where it changes that a rounded number is known: halfway. Between two of these it goes straight, over a valley
    or a top through the middle; a long first level is a plateau up to half a step before its end, and so is a last one.
    Only from the peak on, where all steps are of one unit and there are three of them, each of several rows: a straight
    fall that is logged seldom goes down by one amount, too, in every row.
    """
    top = int(np.argmax(series.values)) if len(series) else 0
    steps, values = series.steps[top:], series.values[top:]
    at = np.flatnonzero(np.diff(values))
    change = values[at + 1] - values[at]
    if len(at) < STAIRS or np.ptp(np.abs(change)) > 1e-6 * values[0] or abs(change[0]) < COARSE * values[0]:
        return series
    if np.diff(at).min() < 2:
        return series
    middle = (steps[at] + steps[at + 1]) / 2
    knots = [(float(steps[0]), float(values[0])), (float(steps[-1]), float(values[-1]))]
    knots += zip(middle.tolist(), ((values[at] + values[at + 1]) / 2).tolist(), strict=True)
    first, last = middle[1] - middle[0], middle[-1] - middle[-2]
    if middle[0] - steps[0] > PLATEAU * first:
        knots.append((float(middle[0] - first / 2), float(values[0])))
    if steps[-1] - middle[-1] > PLATEAU * last:
        knots.append((float(middle[-1] + last / 2), float(values[-1])))
    turns = np.flatnonzero(np.diff(np.sign(change)))
    knots += [(float(middle[turn] + middle[turn + 1]) / 2, float(values[at[turn] + 1])) for turn in turns]
    x, y = np.array(sorted(knots)).T
    return Series(series.steps, np.concatenate([series.values[:top], np.interp(steps, x, y)]))


def slope(series: Series | None) -> float | None:
    """Median growth a step; None where it cannot be told."""
    if series is None or len(series) < 2:
        return None
    slope = float(np.median(np.diff(series.values) / np.diff(series.steps)))
    return slope if slope > 0 else None
