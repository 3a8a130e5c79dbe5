"""A training log as arrays: one series per loss, the learning rate (known future included), tokens and time per step.

Mended on the way, and said in `notes`: rows whose loss is not a positive number are dropped; after a restart the last
run of a step wins, and what the abandoned branch logged beyond it goes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.row import Row

Array = NDArray[np.float64]
LARGEST_STEP = 1e15
MOST_RESTARTS = 20
MIXED = 5
"""So many steps back or repeated are no restarts if they leave half of the rows or less."""


class NotYetError(UserError):
    """The log holds too little so far; more of it may do."""


@dataclass(frozen=True)
class Series:
    """Values at strictly rising steps."""

    steps: Array
    values: Array

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Log:
    """What one run wrote. `losses` and `positions` are by metric: "train", "val" or an evaluation set."""

    name: str
    losses: dict[str, Series]
    positions: dict[str, Series] = field(default_factory=dict)
    rate: Series | None = None
    horizon: int | None = None
    tokens_per_step: float | None = None
    seconds_per_step: float | None = None
    notes: tuple[str, ...] = ()

    def metric(self, wanted: str | None = None) -> str:
        """The loss to look at: asked for, else one by position, else the training loss, else the longest."""
        if wanted is not None:
            if wanted not in self.losses:
                held = ", ".join(self.losses)
                raise UserError(f"holds no loss called {wanted!r}", where=self.name, hint=f"it holds {held}")
            return wanted
        if self.positions:
            return next(iter(self.positions))
        if "train" in self.losses:
            return "train"
        return max(self.losses, key=lambda name: len(self.losses[name]))


def assemble(rows: Iterable[Row], name: str, horizon: int | None = None) -> Log:
    """The log that a reader's rows make; a UserError where they hold no loss or are no single run."""
    columns: dict[str, list[tuple[float, float]]] = {}
    positions: dict[str, list[tuple[float, list[float]]]] = {}
    rates: list[tuple[float, float]] = []
    tokens: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []
    dropped = count = 0
    for row in rows:
        count += 1
        if not (math.isfinite(row.step) and 0 <= row.step <= LARGEST_STEP):
            dropped += 1
            continue
        for metric, loss in row.losses.items():
            if math.isfinite(loss) and loss > 0:
                columns.setdefault(metric, []).append((row.step, loss))
            else:
                dropped += 1
        for metric, values in row.positions.items():
            positions.setdefault(metric, []).append((row.step, values))
        for value, column in ((row.rate, rates), (row.tokens, tokens), (row.seconds, seconds)):
            if value is not None and math.isfinite(value) and value >= 0:
                column.append((row.step, value))
    if not count:
        raise NotYetError(
            "no row has a step and a loss", where=name, hint="known names: step, iter; loss, train_loss, val_loss"
        )
    if not columns and not positions:
        what = "every loss in it is NaN or not positive" if dropped else "has no loss column"
        raise NotYetError(what, where=name, hint="known names: loss, train_loss, val_loss, eval_loss, train/loss")
    restarts = 0
    losses = {}
    for metric, pairs in columns.items():
        losses[metric], back = _series(pairs, name)
        restarts = max(restarts, back)
    held = {metric: _matrix(values, name, metric) for metric, values in positions.items()}
    for metric, series in held.items():
        losses.setdefault(metric, Series(series.steps, series.values.mean(axis=1)))
    notes = []
    if dropped:
        notes.append(f"dropped {dropped} rows whose step or loss is not a positive number")
    if restarts:
        notes.append(f"{restarts} restarts: the last run of each step counts")
    return Log(
        name, losses, held, _series(rates, name)[0] if rates else None, horizon,
        _slope(tokens, name), _slope(seconds, name), tuple(notes),
    )  # fmt: skip


def _series(pairs: Sequence[tuple[float, float]], name: str) -> tuple[Series, int]:
    kept, restarts = _last_wins([step for step, _ in pairs], name)
    table = np.array([pairs[place] for place in kept], dtype=np.float64)
    return Series(table[:, 0], table[:, 1]), restarts


def _matrix(rows: Sequence[tuple[float, list[float]]], name: str, metric: str) -> Series:
    kept, _ = _last_wins([step for step, _ in rows], name)
    widths = {len(rows[place][1]) for place in kept}
    if len(widths) > 1:
        raise UserError(f"per-position losses of {metric!r} have {min(widths)} to {max(widths)} positions", where=name)
    steps = np.array([rows[place][0] for place in kept])
    return Series(steps, np.array([rows[place][1] for place in kept], dtype=np.float64))


def _last_wins(steps: Sequence[float], name: str) -> tuple[list[int], int]:
    """Places of the rows that count, in rising order of step, and how often the run was restarted."""
    kept: list[int] = []
    restarts = repeats = 0
    for place, step in enumerate(steps):
        if kept and step < steps[kept[-1]]:
            restarts += 1
        elif kept and step == steps[kept[-1]]:
            repeats += 1
        while kept and step <= steps[kept[-1]]:
            kept.pop()
        kept.append(place)
    if restarts > max(MOST_RESTARTS, len(steps) // 20) or (restarts + repeats >= MIXED and 2 * len(kept) <= len(steps)):
        raise UserError(
            f"steps go back {restarts} times and repeat {repeats} times in {len(steps)} rows: "
            "out of order, or several runs mixed",
            where=name,
            hint="one run a file, in order of step",
        )
    return kept, restarts


def _slope(pairs: Sequence[tuple[float, float]], name: str) -> float | None:
    """Median growth a step, which pauses and restarts do not move; None where it cannot be told."""
    if len(pairs) < 2:
        return None
    series, _ = _series(pairs, name)
    gaps = np.diff(series.steps)
    if not len(gaps):
        return None
    slope = float(np.median(np.diff(series.values) / gaps))
    return slope if slope > 0 else None
