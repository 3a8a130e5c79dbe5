"""Where a run ends: as its reader says, as its log plans it, or as far as its learning rate lets one suppose."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.log import Log
from llmtool.methods.temporal_scaling.logs.series import Series

Array = NDArray[np.float64]
FALLEN = 0.5
"""A rate below this share of its peak is taken for that of a run that has ended; where it still falls, or was lowered
and stays, with both endings told."""
NEAR_END = 0.2
"""A rate above this share of its peak that falls is on its way: the end that is told is where it will be zero."""
RECENT = 0.05
"""Share of the steps in which a rate is looked at for whether it still falls."""
FALLING = 0.015
"""A rate still falls where it lost this share of its peak in them: until 5% before the end of a cosine to a tenth, when
the loss hardly moves any more; to the last step of a linear fall to a tenth, as nothing tells it from a live one."""
LOW = 0.02
"""What a rate below this share of its peak may still lose, hardly moves the loss."""
LATE = 0.98
"""A fall began in the later half of the run where the rate was above this share of its peak in the middle."""
WHOLE = 100
"""From here on a supposed end is a whole step; epochs have parts."""
GAPS = 2.0
"""Rates are known ahead where they are logged further beyond the last loss than so many gaps between losses."""
BEND = 0.15
"""A rate goes by a power of the step where its exponent changes by less than this share within the later half."""


@dataclass(frozen=True)
class End:
    """The last step, None where nothing tells it.

    goes_on: a step to which the run may go on, if nothing says that it has ended: of a rate that still falls in the
    last row, the one at which it will be zero at the pace it has; of one that stays, twice as many. goes_to: the rate
    there, over the peak. reached: the last step of losses and rates. low: the last rate over its peak, where that alone
    says that the run has ended. supposed: step is goes_on, where the rate is too high for that of an end.
    """

    step: float | None
    goes_on: float | None = None
    reached: float = 0.0
    low: float | None = None
    goes_to: float = 0.0
    supposed: bool = False


def find_end(log: Log, last: float, given: float | None, *, whole: bool) -> End:
    """Where a run whose losses reach step `last` ends. given: the horizon that its reader names; whole: the reader
    says that the log holds the run to its end."""
    known = given or log.horizon
    if known is not None:
        return End(known)
    if log.rate is None or log.rate.values.max() <= 0:
        return End(last if whole else None)
    reached = max(float(log.rate.steps[-1]), last)
    if whole or _ahead(log):
        return End(reached)
    if power_of_step(log.rate.steps, log.rate.values) is not None:
        return End(None)
    now, zero = _at(log.rate, 1.0), _falls_on(log.rate)
    if zero is not None and zero <= reached:  # losses are logged beyond the rates, to where these end
        return End(reached, reached=reached, low=now)
    if zero is not None and now > NEAR_END and (now < FALLEN or _at(log.rate, 0.5) > LATE):
        return End(zero, zero, reached, supposed=True)
    if now < FALLEN and now <= _at(log.rate, 1 - RECENT) + FALLING:  # one that rises warms up
        if zero is None and now > LOW and _stays(log.rate):
            return End(reached, 2 * reached, reached, now, now)
        return End(reached, zero, reached, now)
    return End(None)


def power_of_step(steps: Array, rate: Array) -> float | None:
    """x of a rate that goes as step^-x in its later half, as an inverse square root does; None where it does not."""
    if len(steps) < 8 or rate[-1] <= 0:
        return None
    at = steps[-1] * np.array([0.5, 0.75, 1.0])
    early, late = -np.diff(np.log(np.maximum(np.interp(at, steps, rate), 1e-300))) / np.diff(np.log(at))
    alike = abs(late - early) < BEND * abs(late)
    return float((early + late) / 2) if alike and 0.1 < late < 1.2 else None


def _ahead(log: Log) -> bool:
    """Whether the log holds rates of steps yet to come: a run that evaluates seldom logs rates between two losses."""
    losses = [each.steps for each in log.losses.values() if len(each) > 1]
    gap = min((float(np.median(np.diff(steps))) for steps in losses), default=0.0)
    beyond = max((float(steps[-1]) for steps in losses), default=0.0) + GAPS * gap
    return log.rate is not None and float(log.rate.steps[-1]) > beyond


def _at(rate: Series, share: float) -> float:
    """The rate at a share of the steps, over its peak."""
    return float(np.interp(share * rate.steps[-1], rate.steps, rate.values) / rate.values.max())


def _stays(rate: Series) -> bool:
    """Whether the rate has been one and the same in the last rows, as after a step down: the end of a cosine moves."""
    last = rate.values[rate.steps >= (1 - RECENT) * rate.steps[-1]]
    return bool(len(last) > 2 and np.ptp(last) <= 1e-6 * last[0])


def _falls_on(rate: Series) -> float | None:
    """The step at which the rate will be zero at the pace of its last rows; None where it does not fall there."""
    end, before = _at(rate, 1.0), _at(rate, 1 - RECENT)
    if end < LOW or before - end < FALLING:
        return None
    # A fall that began within these rows has the pace that it has since.
    held = rate.steps[rate.values >= 0.999 * before * rate.values.max()]
    start = max((1 - RECENT) * rate.steps[-1], float(held[-1]) if len(held) else 0.0)
    pace = (before - end) / (rate.steps[-1] - start)
    zero = float(rate.steps[-1] + end / pace)
    return float(round(zero)) if zero >= WHOLE else zero
