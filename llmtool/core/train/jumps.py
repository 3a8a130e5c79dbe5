"""A loss that jumps, told from the noise of batches: what a rate too high for the weights does within a few updates."""

from collections.abc import Iterable
from math import sqrt

MEMORY = 20
"""Updates that the running mean and spread look back on."""
KNOWN = 8
"""Updates after which the spread is known; before, nothing below LARGE is a jump."""
LARGE, SMALL, SPREADS = 1.0, 0.3, 5.0
"""Nats above the mean at the least: at first, and where the spread is known. Steps of a batch of one row of 64 tokens
spread by 0.3 nats, of 64 rows by 0.04, of a few rows of prose or code by turns by 0.6: five spreads are no noise."""


class Jumps:
    """Fed with the losses of a run, one after the other."""

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self.mean = self.last = self.noise = 0.0
        self.count = 0
        for loss in losses:
            self.above(loss)

    def above(self, loss: float) -> float | None:
        """How far a loss jumps above the mean of those before it; None where it does not."""
        over, step = loss - self.mean, loss - self.last
        limit = max(SMALL if self.count >= KNOWN else LARGE, SPREADS * sqrt(self.noise))
        jumps = self.count > 0 and over > limit
        self.count += 1
        share = 1 / min(self.count, MEMORY)
        # From step to step, so that a loss which rises slowly does not pass for noise; the difference of two has twice
        # the variance of one.
        self.noise += share * (step * step / 2 - self.noise) if self.count > 1 else 0.0
        self.mean, self.last = self.mean + share * over, loss
        return over if jumps else None
