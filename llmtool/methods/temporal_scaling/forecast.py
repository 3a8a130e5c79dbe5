"""From a run to a forecast: choose a law by back-test, fit it, put an interval around the end, and judge the result.

Nothing beyond `until` is looked at but the schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.choice import Choice, Fitted, choose
from llmtool.methods.temporal_scaling.earlier import Trial, agreed, learn, lone, other_recipe, trial
from llmtool.methods.temporal_scaling.fit import FEWEST, Fit, beside_high_rate, standard_noise
from llmtool.methods.temporal_scaling.intervals import (
    FALL_BELOW,
    SHORT_FALL,
    UNKNOWN_RATE,
    Interval,
    amount,
    ends,
    interval,
    measured,
    one_sided,
)
from llmtool.methods.temporal_scaling.logs import NotYetError
from llmtool.methods.temporal_scaling.run import FIRST_STEPS, Run
from llmtool.methods.temporal_scaling.schedule import FLAT

Array = NDArray[np.float64]
LARGEST_ERROR = 0.01
WIDEST = 0.03
"""A forecast is not confident above this back-test error, nor with a wider interval, both relative to the loss."""
DOUBTED = 3e-3
"""Relative sd from which it costs confidence that another law back-tests better, or how little was looked at."""
FARTHEST = 1.5
"""A horizon is far where the log distance to it exceeds that of the steps looked at by this factor."""
GAINS = "if the fall of the rate takes off as much as in most projects", "if as much as in some"
NO_END = "{} at {} {}, and nothing says that this was the last (give --horizon, and --schedule where it goes on)"
LEANS = 1.5
"""An interval leans where it is this many times as wide as without the projects whose falls take off more."""
STEEPER = 1.1
NEAR_PEAK = 0.7
"""The slope is judged while the rate is above this share of its peak: a decay makes it grow in any regime."""


@dataclass(frozen=True)
class Forecast:
    """A fitted law, the back-test of every candidate, and the final loss with an interval.

    endings: where the rate to come is only assumed, the final loss for each way in which it may go on. trial: what was
    missed at the ends of earlier runs, where they are the prior; contradicted: what their sd was multiplied by.
    """

    run: Run
    fit: Fitted
    backtests: dict[str, Backtest]
    final: Interval
    why: str
    doubts: tuple[str, ...]
    endings: dict[str, Interval] = field(default_factory=dict)
    trial: Trial | None = None
    contradicted: float = 1.0

    @property
    def confident(self) -> bool:
        """Whether there is nothing against believing the number."""
        return not self.doubts

    @property
    def backtest(self) -> Backtest:
        """The back-test of the law that was chosen."""
        return self.backtests[self.fit.name]

    @property
    def surprise(self) -> float:
        """The scale of the intervals: of earlier runs' ends where they are known, else of the run's own back-test."""
        return self.backtest.surprise if self.trial is None else self.trial.surprise

    @property
    def gains(self) -> dict[str, Interval]:
        """The final loss if the fall of the rate takes off what it does in most projects, and if more, where that
        matters: the halves of the draws (`one_sided`)."""
        if self.run.open_end or self.run.finished or self.endings or not _leans(self.final):
            return {}
        out: dict[str, Interval] = {}
        for name, half in zip(GAINS, (self.final.draws[::2], self.final.draws[1::2]), strict=True):
            low, middle, high = (float(value) for value in np.quantile(half, (0.05, 0.5, 0.95)))
            out[name] = Interval(self.final.value if not out else middle, low, high, half)
        return out

    def band(self, steps: Array) -> tuple[Array, Array, Array]:
        """The predicted losses at some steps, and the two ends of their 90% intervals."""
        value, noise = self.fit.predict(steps), standard_noise(0)
        posterior = np.log(self.fit.draws(steps, noise) / value)
        drift = self.fit.own_error(steps) * noise[:, -1:]
        low, high = value * ends(posterior, drift, self.surprise, lower(self.fit, steps, len(noise)))
        return value, low, high

    def at(self, step: float) -> Interval:
        """The predicted loss at a step and its interval."""
        return bounds(self.fit, step, self.surprise)

    def steps_to(self, target: float, points: int = 400) -> float | None:
        """The first step at which the prediction reaches a loss; None where the horizon comes first."""
        steps = np.geomspace(self.run.cut, self.run.horizon, points)
        return _first(steps, self.fit.predict(steps), target)

    def steps_between(self, target: float, points: int = 100) -> tuple[float | None, float | None]:
        """The steps at which the two ends of the 90% band reach a loss: the earliest, and the latest."""
        steps = np.geomspace(self.run.cut, self.run.horizon, points)
        _, low, high = self.band(steps)
        return _first(steps, low, target), _first(steps, high, target)


def _first(steps: Array, losses: Array, target: float) -> float | None:
    reached = np.flatnonzero(losses <= target)
    return float(steps[reached[0]]) if len(reached) else None


def forecast(run: Run, law: str = "auto", like: Sequence[Run] = ()) -> Forecast:
    """Choose a law, fit it, and say what to think of the result; like: finished runs of the same project."""
    steps, loss = run.seen()
    if len(steps) < FEWEST:
        raise NotYetError(
            f"only {counted(len(steps), 'point')} from step {run.cut:g} to {run.until:g}, the warm-up apart",
            where=run.log.name,
            hint=f"{FEWEST} are needed: wait, or log more often",
        )
    earlier = learn(like, run) if like else None
    prior = agreed(earlier.prior(), run) if earlier else None
    choice = choose(run, law, prior)
    tried = trial(earlier, run.until / run.horizon) if earlier and not run.finished else None
    test = choice.backtests[choice.law.name]
    surprise = test.surprise if tried is None else tried.surprise
    fitted = choice.law.fit(run)
    if isinstance(fitted, Fit):
        fitted = beside_high_rate(fitted, steps, loss)
    apart = _apart(fitted, choice.usual.fit(run)) if choice.usual else 0.0
    left = _left(run, test)
    doubt = np.linalg.norm([left * choice.doubt, left * run.youth, run.end_noise, _jumps_ahead(run), apart])
    if doubt > 0:
        fitted = replace(fitted, elsewhere=float(doubt))  # type: ignore[type-var]
    noise = run.end_noise * standard_noise(0)[:, 0]
    final = measured(run.end, noise) if run.finished else bounds(fitted, run.horizon, surprise)
    endings = {} if run.finished else _endings(fitted, surprise, steps, loss)
    if run.goes_on is not None:
        on = forecast(run.going_on, law, like).final
        how = "stays" if run.goes_to else "falls on to zero"
        endings = {
            f"if {run.axis} {amount(run.until)} was the last": measured(run.end, noise),
            f"if the rate {how}, at {run.axis} {amount(run.goes_on)}": on,
        }
    if endings:
        low, high = (pick(getattr(each, side) for each in endings.values()) for pick, side in
                     ((min, "low"), (max, "high")))  # fmt: skip
        final = replace(final, low=low, high=high)
    doubts = _doubts(run, choice, test, left, final, tried)
    if not run.finished:
        doubts += lone(like, run) + other_recipe(like, run)
    scale = 1.0 if prior is None else prior.scale
    return Forecast(run, fitted, choice.backtests, final, choice.why, doubts, endings, tried, scale)


def _left(run: Run, test: Backtest) -> float:
    """How much of the back-test's errors is still to be feared, from 0 to 1: as errors of a random walk over the log
    steps grow, from none at the last step to those of the back-test as far ahead as it looked, or with the rate's fall.

    A law that missed the end from half of the points by 1% will not miss it by as much where a fiftieth is left.
    """
    steps = np.sqrt(np.log(run.horizon / run.until) / max(test.reach(run.until), 1e-9))
    at = np.array([run.until, run.horizon])
    fall = -float(np.diff(run.schedule.rate(at))[0]) if run.schedule else 0.0
    return float(np.clip(max(steps, fall), 0.0, 1.0))


def _leans(final: Interval) -> bool:
    """Whether much of an interval is what a fall of the rate may take off beyond what it does in most projects."""
    low, high = np.quantile(final.draws[::2], (0.05, 0.95))
    return bool(final.high - final.low > LEANS * (high - low))


def _apart(fitted: Fitted, usual: Fitted) -> float:
    """Relative sd of the end where a law replaced the usual one: each of the two may be right, one is told."""
    end = np.array([fitted.horizon])
    return float(abs(np.log(usual.predict(end) / fitted.predict(end))[0]) / np.sqrt(2))


def _jumps_ahead(run: Run) -> float:
    """Relative sd of jumps still to come: as many for each factor of the step as there were so far, up or down."""
    if not run.changes or run.until >= run.horizon:
        return 0.0
    again = np.log(run.horizon / run.until) / np.log(run.until / run.cut)
    return float(np.sqrt(again * sum(change.size**2 for change in run.changes)))


def _endings(fitted: Fitted, surprise: float, steps: Array, loss: Array) -> dict[str, Interval]:
    """The final loss if the rate stays, and if it falls, where the log does not say which; else nothing."""
    schedule = fitted.schedule
    if schedule is None or schedule.assumed is None or not isinstance(fitted, Fit):
        return {}
    if not fitted.knows_rate:
        return {}
    stays = schedule.rate(np.array([schedule.assumed]))[0] - schedule.eta[-1] < FLAT
    reference = fitted.reference or schedule.total
    falling = beside_high_rate(replace(fitted, schedule=schedule.with_fall(), reference=reference), steps, loss)
    return {
        "if the rate stays" if stays else "if the rate goes on as it did": bounds(fitted, fitted.horizon, surprise),
        "if it falls over the last fifth": bounds(falling, fitted.horizon, surprise),
    }


def bounds(fitted: Fitted, step: float, surprise: float) -> Interval:
    """The predicted loss at a step and its interval."""
    at, noise = np.array([step]), standard_noise(0)
    drift = fitted.own_error(at)[0] * noise[:, -1]
    posterior = fitted.draws(at, noise)[:, 0]
    return interval(float(fitted.predict(at)[0]), posterior, drift, surprise, lower(fitted, at, len(posterior))[:, 0])


def lower(fitted: Fitted, steps: Array, draws: int) -> Array:
    """How much lower than told the log loss may be at some steps [draws, steps], for the fall of the rate up to there.

    What a fall takes off differs among projects by a factor of three, and a prefix at the peak cannot tell.
    """
    schedule, sizes = fitted.schedule, one_sided(draws)
    if schedule is None:
        return np.asarray(np.multiply.outer(sizes, _untold(fitted.until, steps)))
    if not fitted.knows_rate and schedule.decays_after(fitted.until):
        return np.asarray(np.multiply.outer(sizes, np.full(len(steps), UNKNOWN_RATE)))
    if isinstance(fitted, Fit):
        return np.asarray(np.multiply.outer(sizes, fitted.lower(steps)))
    now = schedule.rate(np.array([fitted.until]))
    return np.asarray(np.multiply.outer(sizes, FALL_BELOW * np.maximum(now - schedule.rate(steps), 0.0)))


def _untold(until: float, steps: Array) -> Array:
    """Relative sd of the losses at some steps for a fall of the rate of which the log tells nothing."""
    return np.asarray(UNKNOWN_RATE * np.clip((1 - until / steps) / SHORT_FALL, 0.0, 1.0))


def _doubts(
    run: Run, choice: Choice, test: Backtest, left: float, final: Interval, tried: Trial | None
) -> tuple[str, ...]:
    """What speaks against the forecast, each in a line; left: see _left."""
    doubts: list[str] = []
    steps, loss = run.seen()
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
        if _leans(final) and run.schedule is not None and run.schedule.decays_after(run.until):
            doubts[-1] += (": what a fall of the rate takes off differs among projects, and finished runs of this one "
                           "tell (--like)")  # fmt: skip
    if choice.rival is not None and left * choice.doubt > DOUBTED:
        doubts.append(f"{choice.rival} back-tests better ({100 * choice.backtests[choice.rival].error:.2f}% against "
                      f"{100 * test.error:.2f}%) and was not taken")  # fmt: skip
    if run.schedule is not None and run.schedule.doubt:
        doubts.append(run.schedule.doubt)
    if run.goes_on is None and run.schedule is not None and run.schedule.assumed is not None:
        doubts.append(f"the learning rate is known to step {run.schedule.assumed:,.0f} only: it may yet fall "
                      "(give --schedule)")  # fmt: skip
    if run.schedule is None and _untold(run.until, np.array([run.horizon]))[0] > DOUBTED:
        doubts.append("the learning rate is not known: a decay still to come would end lower (give --schedule)")
    if run.schedule is not None:
        near_peak = run.schedule.rate(steps) >= NEAR_PEAK
        steps, loss = steps[near_peak], loss[near_peak]
    growth = slope_growth(steps, loss)
    if left * (growth - 1) > STEEPER - 1:
        doubts.append(f"the slope of log loss over log step still grows ({growth:.1f} times): not yet a power law")
    return tuple(doubts)


def _no_end(run: Run) -> str:
    """That the run may go on."""
    stays = f"the learning rate stays at {100 * run.goes_to:.0f}% of its peak" if run.goes_to else ""
    return NO_END.format(stays or "the learning rate still fell", run.axis, amount(run.until))


def slope_growth(steps: Array, loss: Array) -> float:
    """Later over earlier slope of the log loss, halves of the log steps apart; below 1 on a power law."""
    if len(steps) < FEWEST:
        return 1.0
    x, y = np.log(steps), np.log(loss)
    middle = (x[0] + x[-1]) / 2
    slopes = [np.polyfit(x[part], y[part], 1)[0] for part in (x <= middle, x > middle) if part.sum() > 2]
    return float(slopes[1] / slopes[0]) if len(slopes) == 2 and slopes[0] < 0 else 1.0
