"""Several runs one after another in a log: refused, with the lines that each begins at. A restart is none, and where a
run short of the last step that was planned is followed by one from the start, it was broken off and begun anew."""

from itertools import pairwise
from typing import NoReturn

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


def refuse_whole_runs(name: str, x: Array, reading: Reading, horizon: float | None) -> list[str]:
    """Refuse a log whose step goes back to where it began, with the loss back at what it was, after a run that came as
    far as it was to come, or if nothing tells that, as far as the next one. A note where one was begun anew."""
    losses = {key: reading.columns[key] for key in reading.by_role("loss")}
    key = max(losses, key=lambda each: (losses[each].meaning.metric == "train", len(losses[each].values)), default=None)
    if key is None:
        return []
    places, loss = np.array(losses[key].places), np.array(losses[key].values)
    keep = np.isfinite(x[places]) & np.isfinite(loss) & (loss > 0)
    places, loss, steps = places[keep], np.log(loss[keep]), x[places][keep]
    if len(steps) < 2 * FEWEST:
        return []
    starts = _starts(steps.tolist(), loss.tolist())
    ends = [*starts[1:], len(steps)]
    reached = [float(steps[start:end].max()) for start, end in zip(starts, ends, strict=True)]
    whole = [at for at in range(len(starts) - 1) if reached[at] >= AS_FAR * (horizon or max(reached[at + 1 :]))]
    if whole:
        parts = [
            f"{name} {steps[start]:,.10g} to {far:,.10g}, loss {np.exp(loss[start]):.4g} to {np.exp(loss[end - 1]):.4g}"
            for start, end, far in zip(starts, ends, reached, strict=True)
        ]
        what = "; ".join(parts[:SHOWN]) + (f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")
        _refuse(reading, x, places[starts].tolist(), what, broken=not horizon)
    far = max(reached[:-1], default=0.0)
    told = f"a run that came to {name} {far:,.10g} was begun anew at {steps[starts[-1]]:,.10g}: the last one counts"
    return [told] if far > reached[-1] else []


def _starts(steps: list[float], loss: list[float]) -> list[int]:
    """Where the rows of each run begin, the first one's included."""
    starts, turn = [0], 0
    falls = [at for at in range(1, len(steps)) if steps[at] < steps[at - 1]]
    for at, end in pairwise([*falls, len(steps)]):
        start, first = starts[-1], turn or at  # `first` is where the steps of this run go back for the first time
        turn = first
        if (
            at - start < FEWEST
            or len(steps) - at < FEWEST
            or steps[at + 1] <= steps[at]
            or steps[at] > steps[start + 1]
        ):
            continue
        last = sorted(loss[at - FEWEST : at])[FEWEST // 2]
        back = loss[start] - last > FALLEN and loss[at] > (loss[start] + last) / 2
        again = (steps[at:end], loss[at:end]) == (steps[start:first], loss[start:first])  # printed twice
        if back and not again:
            starts.append(at)
            turn = 0
    return starts


def _refuse(reading: Reading, x: Array, places: list[int], what: str, *, broken: bool = False) -> NoReturn:
    """Refuse runs whose first rows stand at some places; each is cut out behind the last row of the one before it.
    broken: whether those before the last one may have been broken off."""
    hint = "one run a file"
    lines = [_line(reading, x, place) for place in places]
    if all(lines):
        some = ", ".join(f"{line:,}" for line in lines[:SHOWN]) + (", ..." if len(lines) > SHOWN else "")
        end = f"{lines[2] - 1}" if len(lines) > 2 else "$"
        hint = f"one run a file: they begin at lines {some}; sed -n '{lines[1]},{end}p' cuts the second one out"
        if broken and len(lines) == 2:
            hint += ", which is the run if the first one was broken off"
        elif broken:
            hint += f"; if all but the last were broken off, sed -n '{lines[-1]},$p' cuts out the run"
    elif broken:
        hint += "; if all but the last were broken off, that one is the run"
    raise UserError(f"holds {counted(len(places), 'run')}, one after the other ({what})", where=reading.name, hint=hint)


def _line(reading: Reading, x: Array, place: int) -> int:
    """The line at which a run begins, evaluations before its first row included; 0 where the lines are not known."""
    while place and x[place - 1] <= x[place]:
        place -= 1
    before = reading.lines[place - 1] if place else 0
    return before + 1 if before else reading.lines[place]
