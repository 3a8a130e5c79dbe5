"""From a run to a forecast: choose a law by back-test, fit it, put an interval around the end, and judge the result.

Nothing beyond `until` is looked at but the schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.choice import Candidate, Fitted, choose, rolling
from llmtool.methods.temporal_scaling.doubts import doubts_of, leans, steepening, supposed_warmup
from llmtool.methods.temporal_scaling.earlier import Trial, agreed, learn, lone, other_recipe, trial
from llmtool.methods.temporal_scaling.fit import FEWEST, Fit, beside_high_rate, standard_noise
from llmtool.methods.temporal_scaling.intervals import (
    ALONE,
    FALL_BELOW,
    UNKNOWN_RATE,
    Interval,
    amount,
    ends,
    interval,
    measured,
    one_sided,
    untold,
)
from llmtool.methods.temporal_scaling.logs import NotYetError
from llmtool.methods.temporal_scaling.run import Run
from llmtool.methods.temporal_scaling.schedule import FLAT

Array = NDArray[np.float64]
TOLD = 2.0
"""Points tell that a warm-up was where the back-test without it errs by this many times as much."""
GAINS = "if the fall of the rate takes off as much as in most projects", "if as much as in some"


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
        if self.run.open_end or self.run.finished or self.endings or not leans(self.final):
            return {}
        out: dict[str, Interval] = {}
        for name, half in zip(GAINS, (self.final.draws[::2], self.final.draws[1::2]), strict=True):
            low, middle, high = (float(value) for value in np.quantile(half, (0.05, 0.5, 0.95)))
            out[name] = Interval(self.final.value if not out else middle, low, high, half)
        return out

    def band(self, steps: Array) -> tuple[Array, Array, Array]:
        """The predicted losses at some steps, and the two ends of their 90% intervals."""
        value = self.fit.predict(steps)
        posterior, drift, less = _errors(self.fit, steps, value)
        low, high = value * ends(posterior, drift, self.surprise, less)
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
    unwarmed = _without_warmup(run, choice.law, fitted, test)
    left = _left(run, test)
    doubt = np.linalg.norm(
        [left * choice.doubt, left * run.youth, run.end_noise, _jumps_ahead(run), apart, unwarmed / np.sqrt(2)]
    )
    if isinstance(fitted, Fit):
        fitted = replace(fitted, steeper=left * steepening(run))
    if doubt > 0:
        fitted = replace(fitted, elsewhere=float(doubt))  # type: ignore[type-var]
    noise = run.end_noise * standard_noise(0)[:, 0]
    final = measured(run.end, noise) if run.finished else bounds(fitted, run.horizon, surprise)
    endings = {} if run.finished else _endings(choice.law, run, fitted, surprise)
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
    doubts = doubts_of(run, choice, test, left, final, tried)
    if not run.finished:
        doubts += lone(like, run) + other_recipe(like, run) + supposed_warmup(run, unwarmed)
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


def _apart(fitted: Fitted, usual: Fitted) -> float:
    """Relative sd of the end where a law replaced the usual one: each of the two may be right, one is told."""
    end = np.array([fitted.horizon])
    return float(abs(np.log(usual.predict(end) / fitted.predict(end))[0]) / np.sqrt(2))


def _without_warmup(run: Run, law: Candidate, fitted: Fitted, test: Backtest) -> float:
    """How much higher the log loss ends without the warm-up that is only supposed, unless the points tell that it is
    right: their back-test is worse without it."""
    schedule = run.schedule
    if schedule is None or not schedule.skipped or run.finished or not isinstance(fitted, Fit):
        return 0.0
    other = replace(run, schedule=schedule.without_warmup())
    if test.errors and rolling(other, law).error > TOLD * test.error:
        return 0.0
    end = np.array([run.horizon])
    return float(np.log(law.fit(other).predict(end) / fitted.predict(end))[0])


def _jumps_ahead(run: Run) -> float:
    """Relative sd of jumps still to come: as many for each factor of the step as there were so far, up or down."""
    if not run.changes or run.until >= run.horizon:
        return 0.0
    again = np.log(run.horizon / run.until) / np.log(run.until / run.cut)
    return float(np.sqrt(again * sum(change.size**2 for change in run.changes)))


def _endings(law: Candidate, run: Run, fitted: Fitted, surprise: float) -> dict[str, Interval]:
    """The final loss if the rate stays, and if it falls, where the log does not say which; else nothing."""
    schedule = fitted.schedule
    if schedule is None or schedule.assumed is None or not isinstance(fitted, Fit):
        return {}
    if not fitted.knows_rate:
        return {}
    stays = schedule.rate(np.array([schedule.assumed]))[0] - schedule.eta[-1] < FLAT
    falling = law.fit(replace(run, schedule=schedule.with_fall()))
    assert isinstance(falling, Fit)
    falling = replace(beside_high_rate(falling, *run.seen()), elsewhere=fitted.elsewhere, steeper=fitted.steeper)
    return {
        "if the rate stays" if stays else "if the rate goes on as it did": bounds(fitted, fitted.horizon, surprise),
        "if it falls over the last fifth": bounds(falling, fitted.horizon, surprise),
    }


def bounds(fitted: Fitted, step: float, surprise: float) -> Interval:
    """The predicted loss at a step and its interval."""
    at = np.array([step])
    value = fitted.predict(at)
    posterior, drift, less = (each[:, 0] for each in _errors(fitted, at, value))
    return interval(float(value[0]), value * np.exp(posterior), drift, surprise, less)


def _errors(fitted: Fitted, steps: Array, value: Array) -> tuple[Array, Array, Array]:
    """Draws of the relative errors at some steps [draws, steps], as intervals.scatter takes them: of the posterior
    around the predicted losses, of the law's own, and how much lower the end may be."""
    noise = standard_noise(0)
    scale = ALONE if isinstance(fitted, Fit) and not fitted.earlier else 1.0
    posterior = scale * np.log(fitted.draws(steps, noise) / value)
    own = fitted.own_error(steps, scale) if isinstance(fitted, Fit) else fitted.own_error(steps)
    return posterior, own * noise[:, -1:], lower(fitted, steps, len(noise), scale)


def lower(fitted: Fitted, steps: Array, draws: int, scale: float = 1.0) -> Array:
    """How much lower than told the log loss may be at some steps [draws, steps], for the fall of the rate up to there,
    times `scale`; in the other half of the draws how much higher, below 0, where its slope may go back.

    What a fall takes off differs among projects by a factor of three, and a prefix at the peak cannot tell.
    """
    schedule, sizes = fitted.schedule, one_sided(draws)
    if schedule is None:
        less = untold(fitted.until, steps)
    elif not fitted.knows_rate and schedule.decays_after(fitted.until):
        less = np.full(len(steps), UNKNOWN_RATE)
    elif isinstance(fitted, Fit):
        less = fitted.lower(steps)
    else:
        now = schedule.rate(np.array([fitted.until]))
        less = FALL_BELOW * np.maximum(now - schedule.rate(steps), 0.0)
    more = fitted.higher(steps) if isinstance(fitted, Fit) else np.zeros(len(steps))
    return np.asarray(np.multiply.outer(sizes, scale * less) - np.multiply.outer(np.roll(sizes, 1), more))
