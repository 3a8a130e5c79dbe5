"""Where in the run each record stands: steps, tokens or epochs, counted on where they begin anew with each epoch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.columns import Reading, values_of
from llmtool.methods.temporal_scaling.logs.names import BAR, RUN_WIDE, TOTAL, words
from llmtool.methods.temporal_scaling.logs.runs import refuse_runs

Array = NDArray[np.float64]
LARGEST_STEP = 1e15
MOST_EPOCHS = 1e6
"""A count of epochs from here on is none."""
ROWS = "row"
"""The axis of a log that names no other."""
REACHED = 0.9
"""A bar that went back after this share of its length has begun another epoch, not the same one again."""


@dataclass(frozen=True)
class Axis:
    """steps: of every record, NaN where it has none; horizon: the last step planned, where the axis itself tells it.

    within_epochs: the log counts steps anew in each epoch, and what it says of its last step is of one epoch.
    """

    name: str
    steps: Array
    horizon: float | None = None
    within_epochs: bool = False
    notes: tuple[str, ...] = ()


def find_axis(reading: Reading) -> Axis:
    """The axis of a log: of the names that half of the rows with a loss carry, the best; without a step, tokens, and
    without those, epochs."""
    rows = {place for key in reading.by_role("loss") for place in reading.columns[key].places}
    rows |= {place for held in reading.lists.values() for place, _ in held}
    steps = [key for key in reading.by_role("axis") if not reading.columns[key].meaning.unit]
    epochs = [key for key in reading.by_role("axis") if reading.columns[key].meaning.unit]
    names = [*steps, *(key for key in reading.by_role("tokens") if _rises(reading, key)), *epochs]
    names = names or reading.by_role("tokens")
    if not names:
        return _rows(reading)
    share = {key: len(rows.intersection(reading.columns[key].places)) / max(len(rows), 1) for key in names}
    best = next((key for key in names if share[key] >= 0.5), max(names, key=lambda key: share[key]))
    x = values_of(reading, best)
    for key in steps if best in steps else ():
        # nanoGPT evaluates at `step 250` and trains at `iter 250`: one count. Names that meet in a row are two.
        other = reading.columns[key]
        if key != best and np.isnan(x[other.places]).all():
            x[other.places] = other.values
    found = Axis(best, x, _total(reading, best, steps))
    refuse_runs(found.name, found.steps, reading)
    if best in steps:
        epoch = max(epochs, key=lambda key: len(reading.columns[key].values), default="")
        found = _through_epochs(found, reading, epoch) if epoch else _through_bars(found, reading)
    elif best in epochs:
        x = _spread(x, reading)
        # Keras logs epoch 0 when it is over.
        counted = x[np.isfinite(x)]
        late = len(counted) and counted.min() == 0 and not np.mod(counted, 1).any()
        found = Axis(best, x + 1 if late else x, found.horizon)
    found.steps[~(np.isfinite(found.steps) & (found.steps >= 0) & (found.steps <= LARGEST_STEP))] = np.nan
    return found


def _rows(reading: Reading) -> Axis:
    """Rows of the loss that most have, as steps; others stand where they were logged between them."""
    losses = {key: reading.columns[key].places for key in reading.by_role("loss")}
    places = max([*losses.values(), [place for held in reading.lists.values() for place, _ in held]], key=len)
    x = np.zeros(reading.count)
    x[places] = 1
    told = "no row tells its step: rows are counted, from 1, and so are --horizon and --fit-until (--step-column)"
    return Axis(ROWS, np.maximum(np.cumsum(x), 1), notes=(told,))


def _last(reading: Reading, key: str) -> float | None:
    """The last value of a column."""
    return reading.columns[key].values[-1] if key in reading.columns else None


def _total(reading: Reading, best: str, steps: list[str]) -> float | None:
    """The last step planned, from beside the axis, or from beside another count of the same steps, from 0 or from 1."""
    x = values_of(reading, best)
    x[~np.isfinite(x)] = np.nan
    last = np.nanmax(x, initial=0.0)
    for key in [best, *steps]:
        apart = np.abs(values_of(reading, key) - x)
        apart = apart[np.isfinite(apart)]  # counts that never meet in a row are two
        total = _last(reading, key + TOTAL)
        if total is not None and len(apart) and apart.max() <= 1 and (key == best or total >= last - 1):
            return total
    return None


def _rises(reading: Reading, key: str) -> bool:
    """Whether a column of tokens counts those seen so far, as it must to be an axis."""
    values = np.array(reading.columns[key].values)
    falls = int((np.diff(values) < 0).sum())
    return bool(len(values) and 2 * falls < max(len(values) - 1, 1) and values[-1] >= values[0] and values.max() > 1)


def _through_epochs(found: Axis, reading: Reading, key: str) -> Axis:
    """Steps that go back whenever a count of epochs rises, as steps of the run."""
    x, epochs = found.steps, values_of(reading, key)
    epochs[~((epochs >= 0) & (epochs < MOST_EPOCHS))] = np.nan
    both = np.isfinite(x) & np.isfinite(epochs)
    steps, epoch = x[both], epochs[both]
    length, count = _last(reading, found.name + BAR) or found.horizon, _last(reading, key + TOTAL)
    if not len(epoch) or np.any(np.mod(epoch, 1)):
        return found
    base = min(float(epoch.min()), 1.0)
    rises = np.diff(epoch) > 0
    back = (np.diff(steps) < 0) | ((np.diff(steps) == 0) & rises)
    # What goes back within an epoch, or with the epochs, is a restart.
    again = bool(rises.any() and (back & rises).sum() >= REACHED * rises.sum())
    if not again and length and (found.name + BAR in reading.columns or (count or 0) > 1):
        # No epoch has ended so far, or one step is logged in each: what share of the run says the other count?
        share = (epoch - base) / count if count else np.zeros(len(epoch))
        as_run = (steps / length >= share - 1e-9) & (steps / length <= share + 1 / (count or 1) + 1e-9)
        again = found.name + BAR in reading.columns or bool(np.mean(as_run) < 0.5)
        if not again and epoch.max() == base:
            return Axis(found.name, x)  # whose length the total is, nothing tells yet
    if not again and found.horizon and count is None and epoch.max() == base and _above(reading, key, found.name):
        told = (f"{found.name!r} counts to {found.horizon:,.0f}, which may be the end of one epoch of several: "
                "give --horizon, the last step of the run")  # fmt: skip
        return Axis(found.name, x, notes=(told,))
    if not again:
        return Axis(found.name, x) if (back & rises).any() else found
    notes: tuple[str, ...] = ()
    if not length:
        ends = np.maximum.reduceat(steps, np.concatenate([[0], np.flatnonzero(back) + 1]))
        gap = float(np.median(np.diff(steps)[~back])) if (~back).any() else 0.0
        length = float(ends.max()) + (gap if steps.min() < gap else 0.0)
        notes = (f"{found.name!r} counts anew in each epoch, of {length:,.0f} steps as it seems",)
    out = np.where(np.isfinite(epochs), (epochs - base + 1) * length, x)  # a row of an epoch stands at its end
    out[both] = (epoch - base) * length + steps
    return Axis(found.name, out, count * length if count else None, True, notes)


def _above(reading: Reading, epoch: str, step: str) -> bool:
    """Whether a count of epochs stands before that of steps, as what holds it: `Epoch 0 | Step 12/6501`. OLMo's
    `step=12/10000,epoch=1` is a step of the run, and so is a global one."""
    order = list(reading.known)
    return order.index(epoch) < order.index(step) and not RUN_WIDE.intersection(words(step))


def _through_bars(found: Axis, reading: Reading) -> Axis:
    """Steps of a bar without a count of epochs: after its end it begins anew."""
    length = _last(reading, found.name + BAR)
    if length is None:
        return found
    x = found.steps
    held = np.flatnonzero(np.isfinite(x))
    again = (np.diff(x[held]) < 0) & (x[held][:-1] >= REACHED * length)
    if not again.any():
        return Axis(found.name, x, length)
    x[held[1:]] += np.cumsum(again) * length
    return Axis(found.name, x, None, True)


def _spread(x: Array, reading: Reading) -> Array:
    """Epochs that were rounded, so that rows of one loss share one, spread as evenly as the rows were logged."""
    key = max(reading.by_role("loss"), key=lambda each: len(reading.columns[each].values), default=None)
    places = np.array(reading.columns[key].places if key else [], dtype=int)
    places = places[np.isfinite(x[places])]
    epochs, group, size = np.unique(x[places], return_inverse=True, return_counts=True)
    if len(epochs) < 2 or size.max() < 2 or np.any(np.diff(group) < 0):
        return x
    if (epochs == np.floor(epochs)).all():  # not rounded but counted: a row is so far into its epoch
        length = np.maximum(size, np.median(size))[group]
        spread = epochs[group] - epochs[0] + (np.arange(len(group)) - (np.cumsum(size) - size)[group] + 1) / length
        return np.where(np.isfinite(x), np.interp(np.arange(len(x)), places, spread), np.nan)
    # Each epoch is known at the middle of its rows; training began at 0, before the first of them.
    middle = np.bincount(group, weights=np.arange(len(group))) / size
    start = epochs[0] < np.diff(epochs).min()
    known_at = np.concatenate([[-1.0], middle[1:]]) if start else middle
    known = np.concatenate([[0.0], epochs[1:]]) if start else epochs
    order = np.arange(len(group), dtype=np.float64)
    spread = np.interp(order, known_at, known)
    growth = np.diff(known[-2:]) / np.diff(known_at[-2:])
    spread += np.maximum(order - known_at[-1], 0) * growth
    if not start:
        growth = np.diff(known[:2]) / np.diff(known_at[:2])
        spread -= np.maximum(known_at[0] - order, 0) * growth
    out = np.interp(np.arange(len(x)), places, spread)
    return np.where(np.isfinite(x), out, np.nan)
