"""The steps of a bar, for rows that are printed beside it without one: Hugging Face's Trainer in a terminal.

`45%|####  | 450/1000 [01:00<01:10]`, then `{'loss': 2.3, 'epoch': 0.45}`. The bar is drawn from time to time only, so
that the last one above a row may lag a little; where rows come at even steps, the next such step is theirs. A bar that
goes back is of a run that was started again, and so are the rows below it: series.py and runs.py see to that. Rows that
were kept back and printed in one go have no bar each, and keep their epochs.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.names import TOTAL, meaning
from llmtool.methods.temporal_scaling.logs.numbers import known

Array = NDArray[np.float64]
BAR_LINE = re.compile(
    r"(?:\s*train(?:ing)?\s*:)?[^A-Za-z\[{]*?(?<![\d.])(\d{1,15})/(\d{1,15}) \[[\d:]+<", re.IGNORECASE
)
"""A bar without a name, or of training."""
FEWEST = 3
PAIRED = 0.9
"""Of the rows, so many must have a bar of their own."""
Drawn = tuple[int, float, float]
"""A bar: how many rows stand above it, its step, its last step."""


def drawn(line: str, rows: int) -> Drawn | None:
    """The bar that a line begins with."""
    found = BAR_LINE.match(line)
    return None if found is None else (rows, known(found[1]), known(found[2]))


def give_steps(records: list[dict[str, Any]], bars: list[Drawn]) -> None:
    """Put the steps of a bar into the records that have a loss and none, if it was drawn beside them."""
    roles = [{(held.role, held.unit) for key in record if (held := meaning(key))} for record in records]
    if any(("axis", "") in each for each in roles) or not bars:
        return
    rows = [place for place, record in enumerate(records) if _trained(record)]
    if len(rows) < FEWEST:
        return
    of: dict[float, list[Drawn]] = {}
    for bar in bars:
        of.setdefault(bar[2], []).append(bar)
    for total in sorted(of, reverse=True):
        if len(of[total]) < PAIRED * (len(rows) - 1):
            continue
        last = _above(of[total], len(records))
        steps = last[rows]
        if np.isnan(steps).any() or np.mean(np.diff(steps) > 0) < PAIRED:
            continue
        at = dict(zip(rows, _even(steps).tolist(), strict=True))
        step = before = 0.0
        for place, record in enumerate(records):
            if (beside := float(last[place])) < before:
                step = 0.0  # a run that was started again
            before = beside if beside >= 0 else before
            step = at.get(place, max(step, beside) if beside >= 0 else step)
            record |= {"step": step, "step" + TOTAL: total}
        return


def _above(bars: list[Drawn], rows: int) -> Array:
    """The step of the last bar above each row, NaN before the first. It falls where a run was started again."""
    steps = np.array([step for _, step, _ in bars])
    at = np.searchsorted([place for place, _, _ in bars], np.arange(rows), side="right") - 1
    return np.where(at >= 0, steps[at], np.nan)


def _trained(record: dict[str, Any]) -> bool:
    held = [each for key in record if (each := meaning(key)) is not None]
    return any(each.role == "loss" and each.metric == "train" for each in held) and not any(
        each.role == "closing" for each in held
    )


def _even(steps: Array) -> Array:
    """Steps of rows that come every so many of them, of bars that were drawn before: the next such step, as long as
    that is no later than the bar above the next row; otherwise as they are."""
    every = float(np.round(np.median(np.diff(steps))))
    if every < 2:
        return steps
    up = np.ceil(steps / every) * every
    again = np.diff(steps) < 0
    fits = np.append((up[:-1] <= steps[1:]) & (np.diff(up) > 0) | again, True)
    return np.where(fits, up, steps) if fits.mean() >= PAIRED else steps
