"""Several runs one after another in a log: refused, with the lines that each begins at. A restart is none."""

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.logs.columns import Reading, values_of
from llmtool.methods.temporal_scaling.logs.names import TOTAL

Array = NDArray[np.float64]
FEWEST = 3
"""Rows without which no run can be seen to follow another."""
FALLEN = 0.1
"""Of the logarithm of a loss: one that fell by less in a run does not tell whether it is back where it began."""
AS_FAR = 0.9
"""A run that came so far, in parts of the one after it, was none that broke off and was begun again."""
SHOWN = 4
"""Runs that an error lists."""


def refuse_runs(name: str, x: Array, reading: Reading) -> None:
    """Refuse a log in which a run that reached its last step is followed by another one from the start. x: by record,
    as they were counted."""
    held = np.flatnonzero(np.isfinite(x))
    steps, total = x[held], values_of(reading, name + TOTAL)[held]
    if len(steps) < FEWEST:
        return
    # Two rows that go on from the start: one may be an evaluation that counts from 0, and a longer run a restart.
    ended = (steps[:-2] >= total[:-2]) & (total[1:-1] == total[:-2])
    begun = np.flatnonzero(ended & (steps[1:-1] <= steps[0]) & (steps[1:-1] < steps[:-2]) & (steps[2:] > steps[1:-1]))
    others = {reading.columns[key].meaning.unit for key in reading.by_role("axis") if key != name}
    if len(begun) and "epoch" not in others:  # beside epochs, a step that begins anew may be of the next one
        last, whole, first = steps[begun[0]], total[begun[0]], steps[begun[0] + 1]
        what = f"{name} {last:,.0f} of {whole:,.0f} is followed by {first:,.0f}"
        _refuse(reading, x, [held[0], *held[begun + 1].tolist()], what)


def refuse_whole_runs(name: str, x: Array, reading: Reading) -> None:
    """Refuse a log whose step goes back to where it began, with the loss back at what it was, after a run that came as
    far as the next one."""
    losses = {key: reading.columns[key] for key in reading.by_role("loss")}
    key = max(losses, key=lambda each: (losses[each].meaning.metric == "train", len(losses[each].values)), default=None)
    if key is None:
        return
    places, loss = np.array(losses[key].places), np.array(losses[key].values)
    keep = np.isfinite(x[places]) & np.isfinite(loss) & (loss > 0)
    places, loss, steps = places[keep], np.log(loss[keep]), x[places][keep]
    if len(steps) < 2 * FEWEST:
        return
    starts = _starts(steps, loss)
    ends = [*starts[1:], len(steps)]
    reached = [float(steps[start:end].max()) for start, end in zip(starts, ends, strict=True)]
    if all(reached[at] < AS_FAR * max(reached[at + 1 :]) for at in range(len(starts) - 1)):
        return
    parts = [
        f"{name} {steps[start]:,.10g} to {far:,.10g}, loss {np.exp(loss[start]):.4g} to {np.exp(loss[end - 1]):.4g}"
        for start, end, far in zip(starts, ends, reached, strict=True)
    ]
    what = "; ".join(parts[:SHOWN]) + (f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")
    _refuse(reading, x, places[starts].tolist(), what)


def _starts(steps: Array, loss: Array) -> list[int]:
    """Where the rows of each run begin, the first one's included."""
    starts = [0]
    for at in (np.flatnonzero(np.diff(steps) < 0) + 1).tolist():
        start = starts[-1]
        if at - start < FEWEST or len(steps) - at < FEWEST or steps[at + 1] <= steps[at]:
            continue
        first, last = loss[start], float(np.median(loss[at - FEWEST : at]))
        back = first - last > FALLEN and loss[at] > (first + last) / 2
        if steps[at] <= steps[start + 1] and back and not _same(steps, loss, start, at):
            starts.append(at)
    return starts


def _same(steps: Array, loss: Array, start: int, at: int) -> bool:
    """Whether the rows from a place on are those from an earlier one, printed again."""
    rows = min(at - start, len(steps) - at)
    return bool(np.array_equal(steps[start : start + rows], steps[at : at + rows])
                and np.array_equal(loss[start : start + rows], loss[at : at + rows]))  # fmt: skip


def _refuse(reading: Reading, x: Array, places: list[int], what: str) -> None:
    """Refuse runs whose first rows stand at some places; each is cut out behind the last row of the one before it."""
    hint = "one run a file"
    lines = [_line(reading, x, place) for place in places]
    if all(lines):
        some = ", ".join(f"{line:,}" for line in lines[:SHOWN]) + (", ..." if len(lines) > SHOWN else "")
        end = f"{lines[2] - 1}" if len(lines) > 2 else "$"
        hint = f"one run a file: they begin at lines {some}; sed -n '{lines[1]},{end}p' cuts the second one out"
    raise UserError(f"holds {counted(len(places), 'run')}, one after the other ({what})", where=reading.name, hint=hint)


def _line(reading: Reading, x: Array, place: int) -> int:
    """The line at which a run begins, evaluations before its first row included; 0 where the lines are not known."""
    while place and x[place - 1] <= x[place]:
        place -= 1
    before = reading.lines[place - 1] if place else 0
    return before + 1 if before else reading.lines[place]
