"""90% intervals of the final loss, from draws: what the fit left open, what laws miss, and what the back-test showed.

The draws of the posterior lie around its median, which is moved to the prediction: where a parameter is poorly
determined they lean to one side, and laws do not err to that side. SCALE is the conformal step, ALONE a second one for
runs that are told without earlier ones (benchmarks/scaling.py prints the factor that would hold nine in ten of each
project). A run whose own back-test surprises its law is widened again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHRINK = 0.8
SCALE = 0.75
ALONE = 0.8
"""What counts of the errors that laws make in general, and of what falls of the rate do in some projects, where no
earlier runs tell: with all of both the ends of 15 projects lay inside in 97% and more, as means at 30, 50 and 80%. What
speaks against this very run (Fit.elsewhere, Fit.steeper, an axis that counts no updates) counts in full."""
UNKNOWN_RATE = 2e-2
"""Without a learning rate in the log, a decay may lie ahead, which ends lower: every other draw takes the size of a
normal number with this relative sd off. Of eight such public runs, two ended 1-3% lower, six under 0.5%."""
SHORT_FALL = 0.2
"""A fall that nothing is known of takes up this share of a run, or more: where less is left, part of it is behind."""
FALL_BELOW = 4e-2
"""The same for a fall of the rate from its peak to zero that is known and lies ahead, under a law that has no gain to
lie above its prior (`temporal`). Of seven projects, five ended about where they were told, two 4-5% lower."""
MOST_SURPRISE = 4.0
LARGEST = 0.7
"""No draw lies further off than a factor of two: by then the forecast is refused anyway."""
COVERAGE = 0.9
SMALL = 0.1
"""Below this a loss is printed with three digits: four decimals would show 0.0000."""


@dataclass(frozen=True)
class Interval:
    """A 90% interval around a value, and the draws it comes from."""

    value: float
    low: float
    high: float
    draws: Array


def amount(value: float) -> str:
    """A step, a number of tokens, or a part of an epoch."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def loss_text(value: float) -> str:
    """A loss for people: four decimals, or three digits where it is small."""
    return f"{value:.4f}" if abs(value) >= SMALL else f"{value:.3g}"


def interval(value: float, posterior: Array, drift: Array, surprise: float, lower: Array) -> Interval:
    """The interval around `value`. posterior: draws of it; drift: draws of the law's own relative error.

    surprise: of the back-test, from 1 to MOST_SURPRISE; lower: how much lower a fall of the rate may end, see scatter.
    """
    draws = value * scatter(np.log(posterior / value), drift, surprise, lower)
    low, high = value * ends(np.log(posterior / value), drift, surprise, lower)
    return Interval(value, float(min(low, value)), float(max(high, value)), draws)


def measured(value: float, noise: Array) -> Interval:
    """The end of a run that has reached it: nothing is open but the relative noise of its last rows [draws]."""
    draws = value * np.exp(noise)
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(value, float(low), float(high), draws)


def ends(posterior: Array, drift: Array, surprise: float, lower: Array) -> Array:
    """The two ends [2, ...] of a 90% interval, as factors; what may end lower does not bring the upper one down, nor
    what may end higher the lower one up."""
    low = np.quantile(scatter(posterior, drift, surprise, np.maximum(lower, 0)), (1 - COVERAGE) / 2, axis=0)
    high = np.quantile(scatter(posterior, drift, surprise, np.minimum(lower, 0)), (1 + COVERAGE) / 2, axis=0)
    return np.stack([low, high])


def one_sided(draws: int) -> Array:
    """How far a project lies beyond what most do, in sd [draws]: every other one by the size of a normal number, the
    others not at all. The same numbers for every run, so that runs under one schedule keep their order."""
    sizes = np.abs(np.random.default_rng(1).standard_normal(draws))
    sizes[::2] = 0
    return sizes


def scatter(posterior: Array, drift: Array, surprise: float, lower: Array) -> Array:
    """Factors around the predicted loss, from draws [draws, ...] of the log of the posterior over it.

    lower [draws, ...]: what a fall of the rate ahead may take off beyond what it does in most projects; below 0, how
    much higher the end may lie for another reason.
    """
    widen = min(max(1.0, surprise), MOST_SURPRISE)
    relative = widen * SCALE * (SHRINK * (posterior - np.median(posterior, axis=0)) + drift)
    return np.asarray(np.exp(np.clip(relative - lower, -LARGEST, LARGEST)))


def interval_score(low: float, high: float, truth: float) -> float:
    """Gneiting and Raftery's score of a 90% interval, relative to the truth: its width, and 20 times what it misses."""
    penalty = 2 / (1 - COVERAGE)
    return (high - low + penalty * max(low - truth, 0) + penalty * max(truth - high, 0)) / truth


def untold(until: float, steps: Array) -> Array:
    """Relative sd of the losses at some steps for a fall of the rate of which the log tells nothing."""
    return np.asarray(UNKNOWN_RATE * np.clip((1 - until / steps) / SHORT_FALL, 0.0, 1.0))
