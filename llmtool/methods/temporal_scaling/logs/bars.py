"""The steps of a bar, for rows that are printed beside it without one: Hugging Face's Trainer in a terminal.

`45%|####  | 450/1000 [01:00<01:10]`, then `{'loss': 2.3, 'epoch': 0.45}`. The bar is drawn from time to time only, so
that the last one above a row may lag a little; where rows come at even steps, the next such step is theirs. Rows that
were kept back and printed in one go have no bar each, and keep their epochs.
"""

import re
from typing import Any

import numpy as np

from llmtool.methods.temporal_scaling.logs.names import TOTAL, meaning
from llmtool.methods.temporal_scaling.logs.numbers import known

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
    for total in sorted({bar[2] for bar in bars}, reverse=True):
        above = np.full(len(records) + 1, np.nan)
        for place, step, of in bars:
            if of == total:
                above[place] = step if np.isnan(above[place]) else max(above[place], step)
        last = np.fmax.accumulate(above)  # the bar above each row
        steps = last[rows]
        if np.isnan(steps).any() or np.mean(np.diff(steps) > 0) < PAIRED:
            continue
        even = _even(steps, np.append(steps[1:], np.nan))
        at = dict(zip(rows, even.tolist(), strict=True))
        step = 0.0
        for place, record in enumerate(records):
            step = at.get(place, max(step, last[place]) if last[place] >= 0 else step)
            record |= {"step": step, "step" + TOTAL: total}
        return


def _trained(record: dict[str, Any]) -> bool:
    held = [each for key in record if (each := meaning(key)) is not None]
    return any(each.role == "loss" and each.metric == "train" for each in held) and not any(
        each.role == "closing" for each in held
    )


def _even(steps: np.ndarray[Any, np.dtype[np.float64]], after: Any) -> Any:
    """Steps of rows that come every so many of them, of bars that were drawn before: the next such step, as long as
    that is no later than the bar above the next row; otherwise as they are."""
    every = float(np.round(np.median(np.diff(steps))))
    if every < 2:
        return steps
    up = np.ceil(steps / every) * every
    fits = ~(up > after)
    return np.where(fits & (np.append(np.diff(up), 1) > 0), up, steps) if fits.mean() >= PAIRED else steps
