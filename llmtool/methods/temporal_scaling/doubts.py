"""What speaks against a forecast, each in a line: without any it is confident."""

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.choice import Choice
from llmtool.methods.temporal_scaling.earlier import Trial
from llmtool.methods.temporal_scaling.fit import FEWEST
from llmtool.methods.temporal_scaling.intervals import Interval, amount, untold
from llmtool.methods.temporal_scaling.run import FIRST_STEPS, Run

Array = NDArray[np.float64]
LARGEST_ERROR = 0.01
WIDEST = 0.025
"""A forecast is not confident above this back-test error, nor with a wider interval, both relative to the loss."""
DOUBTED = 3e-3
"""Relative sd from which it costs confidence that another law back-tests better, or how little was looked at."""
FARTHEST = 1.5
"""A horizon is far where the log distance to it exceeds that of the steps looked at by this factor."""
NO_END = "{} at {} {}, and nothing says that this was the last (give --horizon, and --schedule where it goes on)"
LEANS = 1.5
"""An interval leans where it is this many times as wide as without the projects whose falls take off more."""
STEEPER = 1.1
NEAR_PEAK = 0.7
"""The slope is judged while the rate is above this share of its peak: a decay makes it grow in any regime."""


def doubts_of(
    run: Run, choice: Choice, test: Backtest, left: float, final: Interval, tried: Trial | None
) -> tuple[str, ...]:
    """Of a run and the law chosen for it; left: how much of the back-test's errors is still to be feared, 0 to 1."""
    doubts: list[str] = []
    steps, _ = run.seen()
    if run.finished:
        return () if run.goes_on is None else (_no_end(run),)
    if run.goes_on is not None:
        doubts.append(_no_end(run))
    if run.open_end:
        doubts.append("the end of the run is not known (give --horizon)")
    if left * run.youth > DOUBTED:
        doubts.append(f"only {run.until:,.0f} steps were looked at: below {FIRST_STEPS:,.0f} no law holds well yet")
    if np.log(run.horizon / run.until) > FARTHEST * np.log(run.until / steps[0]):
        doubts.append(f"steps {steps[0]:,.0f} to {run.until:,.0f} are a short base for step {run.horizon:,.0f}")
    if run.changes:
        largest = max(run.changes, key=lambda change: abs(change.size))
        doubts.append(f"the loss jumped by {100 * np.expm1(largest.size):+.1f}% at step {largest.step:,.0f} (a new "
                      "epoch, other texts, another batch?), and may again")  # fmt: skip
    if run.log.broken_from is not None and run.log.broken_from > run.until:
        doubts.append(f"the loss is no number since step {run.log.broken_from:,.0f}: the run has diverged")
    if risen := run.risen:
        doubts.append(f"the loss has risen by {100 * np.expm1(risen.size):.1f}% since step {risen.step:,.0f} "
                      "(overfitting?): no law here rises")  # fmt: skip
    if not test.errors:
        doubts.append("too few points for a back-test")
    elif left * test.error > LARGEST_ERROR:
        doubts.append(f"the back-test inside the fitted part errs by {100 * test.error:.1f}%")
    if tried is not None and tried.error > LARGEST_ERROR:
        doubts.append(f"the ends of {counted(len(tried.errors), 'earlier run')} would have been missed by "
                      f"{100 * tried.error:.1f}%, each told by the others")  # fmt: skip
    if (width := (final.high - final.low) / final.value) > WIDEST:
        doubts.append(f"the interval is {100 * width:.1f}% of the loss wide")
        if leans(final) and run.schedule is not None and run.schedule.decays_after(run.until):
            told = "--like" if run.schedule.peak else "--like), and Adam's peak rate in part (--peak"
            doubts[-1] += (": what a fall of the rate takes off differs among projects, and finished runs of this one "
                           f"tell ({told})")  # fmt: skip
    if choice.rival is not None and left * choice.doubt > DOUBTED:
        doubts.append(f"{choice.rival} back-tests better ({100 * choice.backtests[choice.rival].error:.2f}% against "
                      f"{100 * test.error:.2f}%) and was not taken")  # fmt: skip
    if run.schedule is not None and run.schedule.doubt:
        doubts.append(run.schedule.doubt)
    if run.goes_on is None and run.schedule is not None and run.schedule.assumed is not None:
        doubts.append(f"the learning rate is known to step {run.schedule.assumed:,.0f} only: it may yet fall "
                      "(give --schedule)")  # fmt: skip
    if run.schedule is None and untold(run.until, np.array([run.horizon]))[0] > DOUBTED:
        doubts.append("the learning rate is not known: a decay still to come would end lower (give --schedule)")
    growth = slope_growth(*_near_peak(run))
    if left * (growth - 1) > STEEPER - 1:
        doubts.append(f"the slope of log loss over log step still grows ({growth:.1f} times): not yet a power law")
    elif growth <= 1 and left * steepening(run) * np.log(run.horizon / run.until) > LARGEST_ERROR:
        doubts.append("the loss has only begun to fall: not yet a power law")
    return tuple(doubts)


def supposed_warmup(run: Run, unwarmed: float) -> tuple[str, ...]:
    """That the log begins at the peak of the rate, and the end hangs on whether it rose to there; unwarmed: by how much
    the log loss ends higher if it did not."""
    if run.schedule is None or abs(unwarmed) <= LARGEST_ERROR:
        return ()
    begin, side = amount(run.schedule.warmup), "higher" if unwarmed > 0 else "lower"
    return (f"the log begins at {run.axis} {begin}, and a warm-up to there is supposed; without one the end is "
            f"{100 * abs(np.expm1(unwarmed)):.1f}% {side} (--warmup 0)",)  # fmt: skip


def _no_end(run: Run) -> str:
    """That the run may go on."""
    stays = f"the learning rate stays at {100 * run.goes_to:.0f}% of its peak" if run.goes_to else ""
    return NO_END.format(stays or "the learning rate still fell", run.axis, amount(run.until))


def slope_growth(steps: Array, loss: Array) -> float:
    """Later over earlier slope of the log loss, halves of the log steps apart; below 1 on a power law."""
    earlier, later = _slopes(steps, loss)
    return later / earlier if earlier < 0 else 1.0


def steepening(run: Run) -> float:
    """By how much the slope of the log loss over the log step has grown: what the end lies higher by, for each log of
    the steps ahead, if it goes back to what it was. A loss that rose before it fell counts as level.

    Before the bend that ends the first steep fall no law holds, and any ends far too low: 8B models with batches of 1M
    tokens, seen up to a loss of 4, by 17 to 34%, where this says 24 to 34%.
    """
    earlier, later = _slopes(*_near_peak(run))
    return max(min(earlier, 0.0) - later, 0.0)


def _near_peak(run: Run) -> tuple[Array, Array]:
    steps, loss = run.seen()
    if run.schedule is None:
        return steps, loss
    near = run.schedule.rate(steps) >= NEAR_PEAK
    return steps[near], loss[near]


def _slopes(steps: Array, loss: Array) -> tuple[float, float]:
    """Slopes of the log loss over the log step in the two halves of the log steps; equal where there are too few."""
    if len(steps) < FEWEST:
        return 0.0, 0.0
    x, y = np.log(steps), np.log(loss)
    first = x <= (x[0] + x[-1]) / 2
    if min(first.sum(), (~first).sum()) <= 2:
        return 0.0, 0.0
    earlier, later = (float(np.polyfit(x[part], y[part], 1)[0]) for part in (first, ~first))
    return earlier, later


def leans(final: Interval) -> bool:
    """Whether much of an interval is what a fall of the rate may take off beyond what it does in most projects."""
    low, high = np.quantile(final.draws[::2], (0.05, 0.95))
    return bool(final.high - final.low > LEANS * (high - low))
