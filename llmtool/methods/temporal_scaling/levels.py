"""Levels: sudden, lasting jumps of the loss that no law of one curve describes, found in what may be looked at.

Texts that change (a shard of another source, an epoch that begins), another batch or evaluation set: the loss jumps
from one row to the next and goes on from there, with the shape it had. Taken for curvature, such a jump bends every
parameter: public runs of GPT-2 on shards in order were forecast 2-3% too high from the half that holds one.

At each row a local regression of the log loss over the log step, a parabola with a jump in height and in slope there
(a discontinuity design), gives the jump's size. It counts where it stands out of its own error, out of the jumps found
at the other rows (texts that are not shuffled make many), and where it is large. A jump of the learning rate
is the law's business, a spike comes back down: in a few rows, or so slowly that it begins as a jump, and is told from
one by how the loss goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.points import noise
from llmtool.methods.temporal_scaling.schedule import JUMP, Schedule

Array = NDArray[np.float64]
BINS = 240
"""Means that a log of many rows is looked at in: noise goes down, and a jump keeps its place to half a per cent."""
SIDE = 16
"""Bins on either side of a jump that its size is told from, of a log of many rows; half of that of one of few."""
FEWEST = 6
"""Bins on either side without which no jump is looked for."""
SMALLEST = 5e-3
"""A jump below this, relative to the loss, is left to the law."""
ERRORS = 6.0
"""A jump is as large as this many of its standard errors. Some 200 rows are tried, and their noise is correlated: among
the 52 runs of four projects (benchmarks/scaling.py), none of which has a jump that is known of, 5.7 comes up."""
OTHERS = 5.0
"""A jump is as large as this many of the median jumps at other rows."""
MOST = 3
SPIKES = 3
"""Spikes that are left out of a log, at the most, while jumps are looked for."""
BLOCKS = 20
"""Equal parts of a log, at the most, whose mean losses show whether it rises."""
RISE = 5e-3
"""A loss has risen where its last two blocks lie above its lowest one by this share of it, and by five sd of that."""
CLIMB = 3
"""Bins that a spike may have climbed in before the row at which it is seen."""
AROUND = 2.0
"""Whether a jump lasts is looked for within this factor of its step."""
MOVED = 0.25
"""And until the rate has moved by this share of its peak."""
FALLS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Bins in which a spike falls to 1/e, of those tried."""
OVER = 4
"""So many times these, and a spike is over."""
BETTER = 0.7
"""A jump recovers where a fall back leaves less than this share of the squares that a level leaves."""
WARM = 2.0
"""The transient just after the cut is steep; nothing is looked for within this factor of it."""


@dataclass(frozen=True)
class Change:
    """A jump of the loss at a step; size: of the log loss, up where it is positive."""

    step: float
    size: float


def changes(steps: Array, loss: Array, schedule: Schedule | None = None) -> tuple[Change, ...]:
    """The jumps in some losses, in order of step; those of the rate apart."""
    found: list[Change] = []
    if len(steps) < 4 * FEWEST or steps[-1] < 2 * WARM * steps[0]:
        return ()
    calm = np.ones(len(steps), dtype=bool)
    for _ in range(MOST + SPIKES):
        at, y = steps[calm], np.log(loss[calm] / levels(steps[calm], found))
        jump = _largest(at, y, schedule, steps[0])
        if len(found) == MOST or jump is None or any(abs(jump.step - other.step) < 1e-9 for other in found):
            break
        if jump.size < 0 or (spike := _recovered(at, y, jump, schedule)) is None:
            found.append(jump)
        else:
            calm &= (steps < spike[0]) | (steps >= spike[1])
    return tuple(sorted(found, key=lambda change: change.step))


def levels(steps: Array, found: Sequence[Change]) -> Array:
    """The loss at some steps over what it would be at the level after the last jump: before a jump up it is lower."""
    heights = np.zeros(len(steps))
    for change in found:
        heights -= np.where(steps < change.step, change.size, 0.0)
    return np.asarray(np.exp(heights))


def rise(steps: Array, loss: Array) -> Change | None:
    """By how much the loss has risen since it was lowest, as by overfitting; None where it has not."""
    if len(loss) < FEWEST:
        return None
    parts = np.array_split(np.arange(len(loss)), min(BLOCKS, len(loss)))
    means = np.array([float(np.log(loss[part]).mean()) for part in parts])
    lowest = int(np.argmin(means[:-2]))
    size = float(means[-2:].min() - means[lowest])
    doubt = noise(np.log(loss)) * np.sqrt(2 / len(parts[0]))
    return Change(float(steps[parts[lowest][-1]]), size) if size > max(RISE, 5 * doubt) else None


def _largest(steps: Array, log_loss: Array, schedule: Schedule | None, first: float) -> Change | None:
    """The jump that stands out most, or None. first: the step at which what may be looked at begins."""
    t, y, starts = _binned(steps, log_loss)
    if len(t) < 4 * FEWEST:
        return None
    side = int(np.clip(len(t) // 6, SIDE // 2, SIDE))
    explained = _rate_jumps(schedule, t)
    places, sizes, errors = [], [], []
    for place in range(FEWEST, len(t) - FEWEST + 1):
        if starts[place] < WARM * first or np.any(np.abs(explained - place) <= FEWEST):
            continue
        size, error = _jump(t, y, place, side)
        places.append(place)
        sizes.append(size)
        errors.append(error)
    if len(places) < 2 * FEWEST:
        return None
    height, doubt = np.abs(sizes), np.maximum(errors, 1e-6)
    best = int(np.argmax(np.where(height >= SMALLEST, height / doubt, 0.0)))
    # Regressions that reach across the jump show a part of it.
    apart = np.abs(np.array(places) - places[best]) > side
    usual = float(np.median(height[apart])) if apart.any() else 0.0
    if height[best] < max(SMALLEST, ERRORS * doubt[best], OTHERS * usual):
        return None
    return Change(float(starts[places[best]]), float(sizes[best]))


def _recovered(steps: Array, log_loss: Array, jump: Change, schedule: Schedule | None) -> tuple[float, float] | None:
    """The steps from and to which a jump up is a spike that recovers, to a level of its own perhaps; None where it
    lasts, as far as one can see, or ends in one jump back.

    A parabola in the log step goes through what lies around, and from the jump on one of these on top of it: a level, a
    level that ends, and what falls, on a line or to 1/e in so many bins, to nothing or to a level.
    """
    t, y, starts = _binned(steps, log_loss)
    place = int(np.searchsorted(starts, jump.step))
    first, last = np.searchsorted(t, [t[place] / AROUND, t[place] * AROUND])
    if schedule is not None:  # beyond, a fall of the rate would pass for a recovery
        rate = schedule.rate(t)
        moved = np.flatnonzero((np.abs(rate - rate[place]) > MOVED) & (np.arange(len(t)) > place))
        last = min([last, *moved[:1]])
    used = np.r_[min(first, place - CLIMB - FEWEST // 2) : place - CLIMB, place:last]
    x, age = np.log(t[used] / t[place]), np.maximum(used - place, 0).astype(float)
    after = (used >= place).astype(float)

    def left(*on_top: Array) -> float:
        design = np.stack([np.ones_like(x), x, x**2, *on_top], axis=1)
        design /= np.abs(design).max(axis=0)
        answer, *_ = np.linalg.lstsq(design, y[used], rcond=None)
        return float(((y[used] - design @ answer) ** 2).sum())

    if (length := int(after.sum())) < FEWEST:
        return None
    shapes: dict[float, Array] = {OVER * fall: after * np.exp(-age / fall) for fall in FALLS if fall <= length}
    ends = [OVER * fall for fall in FALLS if OVER * fall <= length]
    shapes |= {end + 0.5: after * np.maximum(1 - age / end, 0) for end in ends}
    falls = {until: left(shape) for until, shape in shapes.items()}
    over = min(falls, key=lambda each: falls[each])
    ended = min((left(after * (age < bins)) for bins in range(FEWEST, length - 1)), default=np.inf)
    if falls[over] > BETTER * left(after) or falls[over] > ended:
        return None
    to_level = {until: left(shape, after) for until, shape in shapes.items() if 2 * until <= length}
    if to_level and min(to_level.values()) < BETTER * falls[over]:
        over = min(to_level, key=lambda each: to_level[each])
    begin, end = max(place - CLIMB, 0), place + int(over)
    return float(starts[begin]), float(starts[end]) if end < len(starts) else np.inf


def _binned(steps: Array, log_loss: Array) -> tuple[Array, Array, Array]:
    """Steps, medians of the log loss, and the first step of each bin; bins have equally many rows."""
    parts = np.array_split(np.arange(len(steps)), min(BINS, len(steps)))
    middle = np.array([float(np.exp(np.log(steps[part]).mean())) for part in parts])
    return middle, np.array([float(log_loss[part].mean()) for part in parts]), steps[[part[0] for part in parts]]


def _jump(t: Array, y: Array, place: int, side: int) -> tuple[float, float]:
    """The size of a jump just before bin `place`, and its standard error."""
    window = slice(max(place - side, 0), min(place + side, len(t)))
    at = np.log(t[place - 1] * t[place]) / 2
    x, after = np.log(t[window]) - at, (np.arange(len(t)) >= place)[window].astype(float)
    design = np.stack([np.ones_like(x), x, x**2, after, after * x], axis=1)
    scale = np.abs(design).max(axis=0)
    answer, *_ = np.linalg.lstsq(design / scale, y[window], rcond=None)
    left = y[window] - design / scale @ answer
    # The noise of neighbours is alike: the sd comes from the residuals, and from their sums of three.
    noise = max(float(np.std(left)), float(np.std(np.convolve(left, np.ones(3) / np.sqrt(3), "valid"))))
    noise *= np.sqrt(len(x) / max(len(x) - design.shape[1], 1))
    inverse = np.linalg.pinv(design.T @ design)
    return float(answer[3] / scale[3]), float(noise * np.sqrt(max(inverse[3, 3], 0.0)))


def _rate_jumps(schedule: Schedule | None, t: Array) -> NDArray[np.int_]:
    """The bins at which the rate jumps: by more than it moves around them."""
    if schedule is None:
        return np.array([], dtype=np.int_)
    moves = np.abs(np.diff(schedule.rate(t)))
    return np.flatnonzero((moves > JUMP) & (moves > OTHERS * np.median(moves))) + 1
