"""Rolling origins inside the part of a run that may be looked at: how well would each law have done so far?"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.fit import FEWEST

Array = NDArray[np.float64]
ORIGINS = (0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of the points that each back-test fits."""
UNTESTED = 3.0
TAIL = 0.05
"""The last share of the points, whose mean loss the back-test predicts."""


class Forecaster(Protocol):
    """Fits points of a run up to some step and predicts the mean loss of later ones, with its own sd of the log."""

    def __call__(self, last: float, targets: Array) -> tuple[float, float]:
        """The prediction from what was logged up to `last`, and its sd relative to it."""
        ...


@dataclass(frozen=True)
class Backtest:
    """Relative errors of a law at each origin, beside those of "the loss stays as it is"."""

    origins: tuple[float, ...]
    errors: tuple[float, ...]
    sds: tuple[float, ...]
    last_value: tuple[float, ...]

    @property
    def error(self) -> float:
        """Root mean square of the relative errors; infinite where nothing could be tested."""
        return _rms(self.errors)

    @property
    def surprise(self) -> float:
        """Root mean square of the errors in units of the sd that was claimed for them; UNTESTED where none is known."""
        pairs = zip(self.errors, self.sds, strict=True)
        return _rms(tuple(error / sd for error, sd in pairs)) if self.errors else UNTESTED

    def reach(self, end: float) -> float:
        """How far ahead of its origins the end lay: the root mean square of the logs of its step over theirs."""
        return _rms(tuple(float(np.log(end / origin)) for origin in self.origins)) if self.origins else 0.0

    @property
    def mape(self) -> float:
        """Mean absolute percentage error, in per cent."""
        return 100 * float(np.mean(np.abs(self.errors))) if self.errors else float("inf")

    @property
    def skill(self) -> float:
        """1 for a perfect law, 0 for one that is as good as the last value, below 0 for a worse one."""
        return 1 - self.error / max(_rms(self.last_value), 1e-12) if self.errors else 0.0


def backtest(steps: Array, loss: Array, forecast: Forecaster) -> Backtest:
    """Test on points in order of step; those of the last origin are never fitted."""
    tail = max(1, round(TAIL * len(steps)))
    targets, truth = steps[-tail:], float(loss[-tail:].mean())
    origins, errors, sds, still = [], [], [], []
    for share in ORIGINS:
        count = round(share * len(steps))
        if count < FEWEST:
            continue
        predicted, sd = forecast(float(steps[count - 1]), targets)
        origins.append(float(steps[count - 1]))
        errors.append(predicted / truth - 1)
        sds.append(max(sd, 1e-6))
        still.append(float(loss[max(count - tail, 0) : count].mean()) / truth - 1)
    return Backtest(tuple(origins), tuple(errors), tuple(sds), tuple(still))


def _rms(values: tuple[float, ...]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else float("inf")
