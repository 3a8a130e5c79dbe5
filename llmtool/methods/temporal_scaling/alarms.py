"""What a watched run shows that no law foresees: spikes, divergence, losses that are no numbers, odds against a bar."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.intervals import loss_text
from llmtool.methods.temporal_scaling.run import Run
from llmtool.methods.temporal_scaling.schedule import JUMP

Array = NDArray[np.float64]
WINDOW = 30
"""Rows that the last ones are compared with."""
RECENT = 5
SPIKE = 8.0
"""Robust standard deviations above the median of the window, and at the least LEAST, relative to it."""
LEAST = 0.02


@dataclass(frozen=True)
class Alarm:
    """Something to look at now: its kind, the step, and a line."""

    kind: str
    step: float
    text: str

    @property
    def key(self) -> tuple[str, float]:
        """What is told once: each spike and each bar, and of the rest each kind."""
        return self.kind, self.step if self.kind in ("spike", "bar") else 0.0


def broken(run: Run) -> bool:
    """Whether the loss is no number any more, up to the last row of what may be looked at."""
    return run.log.broken_from is not None and run.log.broken_from > run.steps[-1] and run.until >= run.steps[-1]


def awaited(run: Run) -> Run:
    """The run as one that is watched: a single row without a number at its end, which the next one may mend, counts for
    nothing until another one comes; unless none is to come."""
    since = run.log.broken_from
    if since is None or run.log.broken_rows > 1 or run.log.ended or not (run.open_end or since < run.horizon):
        return run
    return replace(run, log=replace(run.log, broken_from=None, broken_rows=0))


def odds_above(made: Forecast, bar: float) -> float:
    """P(final loss > bar). Where the rate to come is only assumed, that of the way that ends lowest; a run whose loss
    is no number any more reaches no bar, whatever its last good rows foretold."""
    if broken(made.run):
        return 1.0
    ways = list(made.endings.values()) or [made.final]
    return min(float((way.draws > bar).mean()) for way in ways)


def of_run(run: Run) -> list[Alarm]:
    """Alarms at the end of what may be looked at. Rows before the last jump of the rate are another regime."""
    keep = run.steps <= run.until
    steps, loss = run.steps[keep], run.loss[keep]
    start = _last_jump(run)
    steps, loss = steps[steps > start], loss[steps > start]
    found = []
    if run.log.broken_from is not None and broken(run):
        found.append(
            Alarm("broken", run.log.broken_from, f"the loss is no number since step {run.log.broken_from:,.0f}")
        )
    if risen := run.risen:
        found.append(Alarm("rising", float(steps[-1]), f"the loss has risen by {100 * np.expm1(risen.size):.1f}% since "
                           f"step {risen.step:,.0f} (overfitting?)"))  # fmt: skip
    if len(loss) < 2 * RECENT + 4:
        return found
    before, recent = loss[-WINDOW - RECENT : -RECENT], loss[-RECENT:]
    middle = float(np.median(before))
    steps_down = np.diff(before)  # in which neither a trend nor a few high rows show
    noise = 1.4826 * float(np.median(np.abs(steps_down - np.median(steps_down)))) / np.sqrt(2)
    spread = max(noise, LEAST * middle / SPIKE)
    high = recent > middle + SPIKE * spread
    if high.all():
        found.append(Alarm("divergence", float(steps[-1]),
                           f"diverging: the last {RECENT} losses are {100 * (recent.min() / middle - 1):.0f}% and more "
                           f"above the {len(before)} before"))  # fmt: skip
    elif high.any():
        at = int(np.argmax(recent))
        step = float(steps[-RECENT:][at])
        found.append(
            Alarm("spike", step, f"spike at step {step:,.0f}: {loss_text(recent[at])} after {loss_text(middle)}")
        )
    return found


def _last_jump(run: Run) -> float:
    """The last step at which the rate jumped; before the run where it never did."""
    if run.log.rate is None or len(run.log.rate) < 2:
        return -1.0
    rate = run.log.rate.values / max(float(run.log.rate.values.max()), 1e-300)
    jumps = np.flatnonzero((np.abs(np.diff(rate)) > JUMP) & (run.log.rate.steps[1:] <= run.until))
    # A warm-up in a few rows is a ramp of jumps; only the last one is of interest.
    return float(run.log.rate.steps[jumps[-1]]) if len(jumps) else -1.0
