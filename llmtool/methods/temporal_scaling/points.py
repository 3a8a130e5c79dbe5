"""What laws are fitted to: means of a log's rows in bins of the log step, and how sure each is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HUBER = 2e-3
"""Residuals of the log loss beyond this count linearly. Laws miss real curves by some 3e-4 and far more early on."""
LAST = 0.05
"""Share of the steps whose points are the last ones."""
LEAST = 2e-4
"""Sd of the noise of a point, at the least: logs are printed with four digits."""
POINTS = 60
AROUND = 5
SPIKE = 5.0
"""A point is a spike where it stands this many sd out of the median of those AROUND it; its sd then is how far it does.
Errors are alike in neighbours, so that a spike that were believed would bend what is told of them all."""


@dataclass(frozen=True)
class Points:
    """What a law is fitted to: means of bins that are uniform in log step; noise: the sd of that of each log loss."""

    steps: Array
    log_loss: Array
    noise: Array

    @property
    def sd(self) -> Array:
        """How far each log loss may lie from a law, by itself: by its noise, and by what laws miss anywhere."""
        return np.hypot(HUBER, self.noise)

    def apart(self, told: Array) -> float:
        """How far the last points stand from what a law tells of them, beyond what their noise explains.

        A law is bent by all that it is fitted to, and where it misses the last points, it misses those to come alike.
        """
        last = self.steps >= self.steps[-1] - LAST * (self.steps[-1] - self.steps[0])
        sure = np.maximum(self.noise[last], LEAST) ** -2.0
        mean = float((sure * (self.log_loss - told)[last]).sum() / sure.sum())
        return mean * max(0.0, 1 - 1 / (sure.sum() * mean**2)) if mean else 0.0


def thin(steps: Array, loss: Array, count: int = POINTS) -> Points:
    """At most `count` points. A row a step of noisy training loss is averaged, a smooth curve is left as it is."""
    log_loss = np.log(loss)
    scatter = noise(log_loss)
    edges = np.geomspace(steps[0], steps[-1], count + 1)[1:-1]
    bins = np.searchsorted(edges, steps, side="right")
    used, members = np.unique(bins, return_inverse=True)
    size = np.bincount(members, minlength=len(used))
    mean = [np.bincount(members, weights=values, minlength=len(used)) / size for values in (steps, log_loss)]
    alone = scatter / np.sqrt(size)
    return Points(mean[0], mean[1], np.hypot(alone, spikes(mean[1], np.hypot(HUBER, alone))))


def spikes(log_loss: Array, sd: Array) -> Array:
    """By how much points stand out of the medians of five, where that is a spike, else 0: none on a falling curve.

    At the end, where a drop may be that of the rate, only what stands up is one; at the beginning nothing is.
    """
    if len(log_loss) < AROUND:
        return np.zeros(len(log_loss))
    half = AROUND // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(log_loss, half, mode="reflect"), AROUND)
    out = log_loss - np.median(around, axis=1)
    out[:half], out[-half:] = 0, out[-half:].clip(min=0)
    return np.where(np.abs(out) > SPIKE * sd, np.abs(out), 0.0)


def noise(log_loss: Array) -> float:
    """The sd of independent noise, from second differences, which a smooth curve hardly has."""
    if len(log_loss) < 5:
        return 0.0
    bend = np.diff(log_loss, 2)[len(log_loss) // 4 :]
    return float(np.median(np.abs(bend)) / 0.6745 / np.sqrt(6))
