"""The difference of two runs, with a law of its own: what two mixtures or rates owe to what sets them apart.

Where both were evaluated at the same steps on the same set, under the same relative rate, much of what a law of one
curve must explain is the same in both and falls out of d(t) = log L_A(t) - log L_B(t): the noise of the evaluation's
texts, the fall of the rate, the early transient. What is left moves slowly. d is carried to the horizon by two laws, a
constant and c + b log t, of which the one that did better at rolling origins is taken; its own back-test says how far
it is to be trusted, and the difference of the two forecasts counts beside it with the inverse of its variance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.fit import FALL
from llmtool.methods.temporal_scaling.forecast import Forecast

Array = NDArray[np.float64]
FEWEST = 12
"""Common steps below which two runs are not paired."""
RATES = 0.02
"""Rates relative to their peaks that differ by more are two schedules: their difference follows no slow law."""
SAME_PEAK = 0.05
"""Logs of peak rates that are further apart are of different rates."""
ORIGINS = (0.4, 0.55, 0.7, 0.85)
BEND = 0.5
"""The share of the constant's back-test error below which c + b log t is taken instead."""
WIDEN = 1.6
"""The sd over what the back-test gives: on 54 pairs of public runs and 42 of ours nine in ten differences then lie
within 1.645 sd. It, BEND and the tenth below were settled on these pairs."""
SMALLEST = 5e-4
"""No difference is known better than this, relative to the loss."""
OTHER_GAIN = 2e-2
"""Relative sd of the difference for a whole fall of the rate still ahead, where nothing says that the two runs have one
peak rate: the noisier one is behind at the peak, and gains more. 1.7% over seven pairs of optimizers, 2.8% over a sweep
of mixtures and rates, 0.5% over sizes at one rate, where FALL holds."""


@dataclass(frozen=True)
class Gap:
    """log L_A - log L_B at the horizon by the paired law, its sd, the law, and the steps it was fitted on.

    alike: both runs are known to have one peak rate, so that its fall takes about as much off the one as off the other.
    """

    value: float
    sd: float
    law: str
    steps: int
    alike: bool = True


def pair(first: Forecast, second: Forecast) -> Gap | None:
    """The paired law of two runs; None where they cannot be paired."""
    found = common(first, second)
    if found is None:
        return None
    steps, apart = found
    horizon = float(first.run.horizon)
    errors: dict[str, list[float]] = {"constant": [], "log": []}
    spans: list[float] = []
    tail = max(2, len(steps) // 10)
    truth, at = float(apart[-tail:].mean()), float(np.exp(np.log(steps[-tail:]).mean()))
    for share in ORIGINS:
        count = round(share * len(steps))
        if count < FEWEST // 2 or count > len(steps) - tail:
            continue
        spans.append(np.log(at / steps[count - 1]))
        for law, missed in errors.items():
            missed.append(carried(law, steps[:count], apart[:count], at) - truth)
    backtest = {law: float(np.sqrt(np.mean(np.square(missed)))) for law, missed in errors.items()}
    law = "log" if backtest["log"] < BEND * backtest["constant"] else "constant"
    # Errors of a slow drift grow with the log distance that is bridged.
    reach = np.log(horizon / steps[-1]) / max(float(np.sqrt(np.mean(np.square(spans)))), 1e-9)
    sd = WIDEN * max(backtest[law] * max(reach, 0.0), _noise(apart) / np.sqrt(tail), SMALLEST)
    alike = one_rate(first, second)
    fall = 0.0
    if (schedule := first.run.schedule) is not None:
        now, then = schedule.rate(np.array([steps[-1], horizon]))
        fall = (FALL if alike else OTHER_GAIN) * max(float(now - then), 0.0)
    return Gap(carried(law, steps, apart, horizon), float(np.hypot(sd, fall)), law, len(steps), alike)


def one_rate(first: Forecast, second: Forecast) -> bool:
    """Whether both logs tell the rate, and its peaks are the same."""
    peaks = [peak for each in (first, second) if (peak := each.run.log.peak_rate)]
    return len(peaks) == 2 and bool(abs(np.log(peaks[0] / peaks[1])) < SAME_PEAK)


def common(first: Forecast, second: Forecast) -> tuple[Array, Array] | None:
    """Steps that both have, and log L_A - log L_B there; None where there are too few or the rates differ."""
    one, other = first.run, second.run
    (steps, loss), (others, other_loss) = one.logged(), other.logged()
    shared, here, there = np.intersect1d(steps, others, return_indices=True)
    if len(shared) < FEWEST or abs(one.horizon - other.horizon) > 0.01 * one.horizon:
        return None
    if (one.schedule is None) != (other.schedule is None):
        return None
    if one.schedule is not None and other.schedule is not None:
        grid = np.linspace(shared[0], one.horizon, 50)
        if np.abs(one.schedule.rate(grid) - other.schedule.rate(grid)).max() > RATES:
            return None
    return shared, np.log(loss[here] / other_loss[there])


def carried(law: str, steps: Array, apart: Array, to: float) -> float:
    """A difference carried to a later step: the mean of its last tenth, or a line over log t through its later half
    (in log steps), which goes through that mean."""
    late = max(3, len(steps) // 10)
    level, middle = float(apart[-late:].mean()), float(np.log(steps[-late:]).mean())
    if law == "constant":
        return level
    later = np.log(steps) >= (np.log(steps[0]) + np.log(steps[-1])) / 2
    slope = float(np.polyfit(np.log(steps[later]), apart[later], 1)[0])
    return float(level + slope * (np.log(to) - middle))


def _noise(apart: Array) -> float:
    """The sd of independent noise, from second differences."""
    return float(np.median(np.abs(np.diff(apart, 2))) / 0.6745 / np.sqrt(6))
