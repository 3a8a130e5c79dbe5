"""From a log to a forecast: cut the warm-up off, back-test the laws on what may be seen, choose one, fit it, judge it.

Nothing beyond `until` is looked at but the schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError, closest
from llmtool.methods.temporal_scaling.backtest import Backtest, backtest
from llmtool.methods.temporal_scaling.fit import FEWEST, Fit, fit, standard_noise
from llmtool.methods.temporal_scaling.intervals import SHRINK, Interval, interval
from llmtool.methods.temporal_scaling.laws import LAWS, POWER, Law
from llmtool.methods.temporal_scaling.logs.log import Log
from llmtool.methods.temporal_scaling.schedule import Schedule, from_log

Array = NDArray[np.float64]
LARGEST_ERROR = 0.01
WIDEST = 0.1
"""A forecast is not confident above this back-test error, nor with a wider interval, both relative to the loss."""
STEEPER = 1.1
NEAR_PEAK = 0.7
CLEARLY = 0.7
TINY = 1e-3
"""A law replaces the usual one where its back-test error is below 0.7 of the usual one's; 0.1% is as good as none."""


@dataclass(frozen=True)
class Run:
    """What is fitted: the points between the cut and `until`, the whole series, and the schedule to the horizon."""

    log: Log
    metric: str
    steps: Array
    loss: Array
    schedule: Schedule | None
    horizon: float
    cut: float
    until: float

    @property
    def seen(self) -> tuple[Array, Array]:
        """Steps and losses that may be looked at."""
        keep = (self.steps >= self.cut) & (self.steps <= self.until)
        return self.steps[keep], self.loss[keep]


@dataclass(frozen=True)
class Forecast:
    """A fitted law, the back-test of every candidate, and the final loss with an interval."""

    run: Run
    fit: Fit
    backtests: dict[str, Backtest]
    final: Interval
    why: str
    doubts: tuple[str, ...]

    @property
    def confident(self) -> bool:
        """Whether there is nothing against believing the number."""
        return not self.doubts

    def band(self, steps: Array, noise: Array | None = None) -> tuple[Array, Array, Array]:
        """The predicted losses and their 90% interval at each step."""
        value = self.fit.predict(steps)
        bounds = [_interval(self.fit, step, self.backtests.get(self.fit.law.name)) for step in steps]
        return value, np.array([b.low for b in bounds]), np.array([b.high for b in bounds])


def prepare(
    log: Log,
    *,
    metric: str | None = None,
    until: str | None = None,
    horizon: float | None = None,
    warmup: float | None = None,
    planned: Schedule | None = None,
    smooth: int = 1,
) -> Run:
    """The run behind a log. until: a step, or a share of the horizon such as "30%"; default: all there is."""
    metric = log.metric(metric)
    steps, loss = _smoothed(log.losses[metric].steps, log.losses[metric].values, smooth)
    last = float(steps[-1])
    known = horizon or log.horizon or (planned.horizon if planned else None)
    if known is None and log.rate is not None and log.rate.steps[-1] > last:
        known = float(log.rate.steps[-1])
    if known is None and until is not None:
        known = last  # a finished run, looked at as if it were not
    if known is None:
        raise UserError("the end of the run is not known", where=log.name, hint="give --horizon STEPS, or --fit-until")
    if known < last:
        raise UserError(f"the horizon {known:g} lies before the last step {last:g}", where=log.name,
                        hint="use --fit-until to look at less of the run")  # fmt: skip
    schedule = from_log(log, known, warmup, planned)
    risen = schedule.warmup if schedule else warmup or 0.0
    cut = max(2 * risen, 0.01 * known, 1.0)
    return Run(log, metric, steps, loss, schedule, known, cut, _until(until, known, last, log.name))


def _until(until: str | None, horizon: float, last: float, name: str) -> float:
    if until is None:
        return last
    try:
        step = float(until[:-1]) / 100 * horizon if until.endswith("%") else float(until)
    except ValueError:
        raise UserError(f"--fit-until {until}: neither a step nor a share such as 30%") from None
    if not 0 < step <= horizon:
        raise UserError(f"--fit-until {until} lies outside the run", where=name, hint=f"its horizon is {horizon:g}")
    return step


def _smoothed(steps: Array, loss: Array, window: int) -> tuple[Array, Array]:
    """Means of `window` rows each, the last ones whole."""
    if window < 2:
        return steps, loss
    start = len(steps) % window
    if start == len(steps):
        raise UserError(f"--smooth {window} leaves no point of {len(steps)}")
    return steps[start:].reshape(-1, window).mean(axis=1), loss[start:].reshape(-1, window).mean(axis=1)


def candidates(run: Run, law: str) -> tuple[list[Law], str]:
    """The laws to choose from, the usual one first, and why these."""
    if law != "auto":
        if law not in LAWS:
            raise UserError(f"no law is called {law!r}", hint=closest(law, list(LAWS)) or f"one of {', '.join(LAWS)}")
        if LAWS[law].needs_schedule and run.schedule is None:
            raise UserError(f"the law {law!r} needs the learning rate, which is not in the log", where=run.log.name,
                            hint="give --schedule, or take --law power")  # fmt: skip
        return [LAWS[law]], "as asked for"
    if run.schedule is None:
        return [law for law in LAWS.values() if not law.needs_schedule][:2], "the log has no learning rate"
    return [law for law in LAWS.values() if law.needs_schedule], "the learning rate is known to the end"


def forecast(run: Run, law: str = "auto") -> Forecast:
    """Choose a law by back-test, fit it, and say what to think of the result."""
    steps, loss = run.seen
    if len(steps) < FEWEST:
        raise UserError(
            f"only {len(steps)} points between step {run.cut:g} (end of twice the warm-up) and {run.until:g}",
            where=run.log.name,
            hint=f"{FEWEST} are needed: wait, or log more often",
        )
    laws, reason = candidates(run, law)
    tests = {each.name: test_law(run, each) for each in laws}
    usual = laws[0]
    chosen = min(laws, key=lambda each: tests[each.name].error)
    if not max(tests[chosen.name].error, TINY) < CLEARLY * tests[usual.name].error:
        chosen = usual
    if len(laws) > 1:
        others = ", ".join(f"{each.name} {100 * tests[each.name].error:.2f}%" for each in laws if each is not chosen)
        reason += f"; back-test {100 * tests[chosen.name].error:.2f}% against {others}"
    if POWER.name not in tests:
        tests[POWER.name] = test_law(run, POWER)
    fitted = fit(chosen, steps, loss, run.horizon, run.schedule)
    final = _interval(fitted, run.horizon, tests[chosen.name])
    return Forecast(run, fitted, tests, final, reason, _doubts(run, tests[chosen.name], final))


def test_law(run: Run, law: Law) -> Backtest:
    """The back-test of one law on what may be seen of a run."""
    steps, loss = run.seen

    def predict(last: float, targets: Array) -> tuple[float, float]:
        keep = steps <= last
        fitted = fit(law, steps[keep], loss[keep], run.horizon, run.schedule, starts=2)
        value = float(fitted.predict(targets).mean())
        spread = float(np.std(np.log(fitted.draws(targets[-1:], standard_noise(0, draws=100)))))
        return value, float(np.hypot(SHRINK * spread, law.drift * np.log(targets[-1] / last)))

    return backtest(steps, loss, predict)


def _interval(fitted: Fit, step: float, test: Backtest | None) -> Interval:
    at = np.array([step])
    noise = standard_noise(0)
    drift = fitted.law.drift * np.log(max(step / fitted.until, 1.0)) * noise[:, -1]
    schedule = fitted.schedule
    known = schedule is not None and (fitted.law.needs_schedule or not schedule.decays_after(fitted.until))
    posterior = fitted.draws(at, noise)[:, 0]
    return interval(float(fitted.predict(at)[0]), posterior, drift, test.surprise if test else 1.0, known)


def _doubts(run: Run, test: Backtest, final: Interval) -> tuple[str, ...]:
    """What speaks against the forecast, each in a line."""
    doubts = []
    if not test.errors:
        doubts.append("too few points for a back-test")
    elif test.error > LARGEST_ERROR:
        doubts.append(f"the back-test inside the fitted part errs by {100 * test.error:.1f}%")
    if (final.high - final.low) / final.value > WIDEST:
        doubts.append(f"the interval is {100 * (final.high - final.low) / final.value:.0f}% of the loss wide")
    if (growth := slope_growth(*_at_peak(run))) > STEEPER:
        doubts.append(f"the slope of log loss over log step still grows ({growth:.1f} times): not yet a power law")
    return tuple(doubts)


def _at_peak(run: Run) -> tuple[Array, Array]:
    """What was seen before the rate fell much: a decay makes the slope grow in any regime."""
    steps, loss = run.seen
    if run.schedule is None:
        return steps, loss
    keep = run.schedule.rate(steps) >= NEAR_PEAK
    return steps[keep], loss[keep]


def slope_growth(steps: Array, loss: Array) -> float:
    """Later over earlier slope of the log loss over the log step, halves of the log steps; below 1 on a power law."""
    if len(steps) < FEWEST:
        return 1.0
    x, y = np.log(steps), np.log(loss)
    middle = (x[0] + x[-1]) / 2
    slopes = [np.polyfit(x[part], y[part], 1)[0] for part in (x <= middle, x > middle) if part.sum() > 2]
    return float(slopes[1] / slopes[0]) if len(slopes) == 2 and slopes[0] < 0 else 1.0


def steps_to(target: float, forecast: Forecast, points: int = 400) -> float | None:
    """The first step at which the prediction reaches a loss; None where the horizon comes first."""
    steps = np.geomspace(forecast.run.cut, forecast.run.horizon, points)
    reached = np.flatnonzero(forecast.fit.predict(steps) <= target)
    return float(steps[reached[0]]) if len(reached) else None


def forecast_all(runs: Sequence[Run], law: str = "auto") -> list[Forecast]:
    """A forecast of each run."""
    return [forecast(run, law) for run in runs]
