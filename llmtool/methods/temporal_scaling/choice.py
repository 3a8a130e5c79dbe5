"""Which law: the candidates for a run, their back-tests, and the rule that picks one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.backtest import Backtest, backtest
from llmtool.methods.temporal_scaling.fit import STARTS, Fit, Prior, fit, standard_noise
from llmtool.methods.temporal_scaling.intervals import SHRINK
from llmtool.methods.temporal_scaling.laws import COOLDOWN, LAWS, POWER, SHIFTED, Law
from llmtool.methods.temporal_scaling.misfit import BESIDE, USUAL
from llmtool.methods.temporal_scaling.positions import TemporalLaw
from llmtool.methods.temporal_scaling.run import Run
from llmtool.methods.temporal_scaling.schedule import Schedule

Array = NDArray[np.float64]
CLEARLY = 1 / 3
RIVAL = 0.7
TINY = 2e-3
"""A law replaces the usual one where its back-test error is below CLEARLY of the usual one's; 0.2% is as good as none.
Of ten that lay between that and 0.7, five would have been told worse, by up to 2.8%, and five better, by 0.5% at the
most: such a rival widens the interval."""
UNLIKE = 1.2
"""A run's distance from finished ones is told above this many times their own."""
TEMPORAL = "temporal"
NAMES = (TEMPORAL, *LAWS)


class Fitted(Protocol):
    """A fitted law of any kind."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def formula(self) -> str: ...  # noqa: D102
    @property
    def knows_rate(self) -> bool: ...  # noqa: D102
    @property
    def horizon(self) -> float: ...  # noqa: D102
    @property
    def schedule(self) -> Schedule | None: ...  # noqa: D102
    @property
    def until(self) -> float: ...  # noqa: D102

    def parameters(self) -> dict[str, float]:
        """The fitted parameters by name."""
        ...

    def asymptote(self) -> float | None:
        """The loss of an endless run at the peak rate; None where the law has none."""
        ...

    def predict(self, steps: Array) -> Array:
        """Mean losses at some steps."""
        ...

    def own_error(self, steps: Array) -> Array:
        """Relative sd that the law itself errs by at some steps."""
        ...

    def draws(self, steps: Array, noise: Array) -> Array:
        """Mean losses [draws, steps] under parameters drawn with standard normal noise [draws, parameters]."""
        ...


class Candidate(Protocol):
    """A law that can be fitted to a run."""

    @property
    def name(self) -> str:
        """The law's name."""
        ...

    def fit(self, run: Run, last: float | None = None, starts: int = STARTS) -> Fitted:
        """The law fitted to what may be looked at, up to `last`."""
        ...


@dataclass(frozen=True)
class MeanLaw:
    """A law of the mean loss as a candidate."""

    law: Law
    prior: Prior | None = None

    @property
    def name(self) -> str:
        """The law's name."""
        return self.law.name

    def fit(self, run: Run, last: float | None = None, starts: int = STARTS) -> Fit:
        """The law fitted to what may be looked at, up to `last`."""
        steps, loss = run.seen(last)
        misfit = USUAL if self.prior is None else BESIDE
        return fit(self.law, steps, loss, run.horizon, run.schedule, starts, misfit, self.prior)


@dataclass(frozen=True)
class Choice:
    """The law chosen, the back-test of every candidate and of the plain power law, and why.

    usual: the law of the run's kind that the chosen one replaced.
    """

    law: Candidate
    backtests: dict[str, Backtest]
    why: str
    usual: Candidate | None = None

    @property
    def rival(self) -> str | None:
        """A law that was not taken although it back-tests clearly better: it does not know the rate to come."""
        error = self.backtests[self.law.name].error
        better = [name for name, test in self.backtests.items() if test.error < RIVAL * error]
        return min(better, key=lambda name: self.backtests[name].error) if better and TINY < error < np.inf else None

    @property
    def doubt(self) -> float:
        """Relative sd that the rival's better back-test costs."""
        if self.rival is None:
            return 0.0
        return float(np.sqrt(self.backtests[self.law.name].error ** 2 - self.backtests[self.rival].error ** 2))


def choose(run: Run, law: str = "auto", prior: Prior | None = None) -> Choice:
    """The usual law of the run's kind, unless another one did clearly better at the rolling origins; prior: of finished
    runs, which were fitted by one law."""
    laws, why = candidates(run, law) if prior is None else _like(law, prior)
    tests = {each.name: rolling(run, each) for each in laws}
    best = min(laws, key=lambda each: tests[each.name].error)
    if not max(tests[best.name].error, TINY) < CLEARLY * tests[laws[0].name].error:
        best = laws[0]
    if len(laws) > 1 and tests[best.name].errors:
        others = ", ".join(f"{each.name} {100 * tests[each.name].error:.2f}%" for each in laws if each is not best)
        why += f"; back-test error {100 * tests[best.name].error:.2f}%, others {others}"
        usual = laws[0].name
        if best.name != usual:
            why += f" ({best.name} is below a third of the usual {usual})"
        elif any(test.error < tests[usual].error for test in tests.values()):
            why += f" ({usual} stays unless another is below a third of it; {100 * TINY:g}% is as good as none)"
    if POWER.name not in tests:
        tests[POWER.name] = rolling(run, MeanLaw(POWER))
    return Choice(best, tests, why, None if best is laws[0] else laws[0])


def candidates(run: Run, law: str) -> tuple[list[Candidate], str]:
    """The laws to choose from, the usual one first, and why these."""
    if law != "auto":
        return [_named(run, law)], "as asked for"
    if run.schedule is None:
        laws: list[Candidate] = [MeanLaw(POWER), MeanLaw(SHIFTED)]
        why = "the log has no learning rate"
    else:
        laws = [MeanLaw(each) for each in LAWS.values() if each.needs_schedule]
        if run.schedule.flat:
            laws.append(MeanLaw(POWER))
        why = "the learning rate is known to the end"
        if run.schedule.follows:
            why = f"the learning rate is {run.schedule.follows} so far, and taken to go on as such"
        if run.schedule.assumed is not None:
            why = f"the learning rate is known to step {run.schedule.assumed:,.0f}"
    if run.metric in run.log.positions:
        return [TemporalLaw(), *laws], f"the log has losses by position, and {why}"
    return laws, why


def _like(law: str, prior: Prior) -> tuple[list[Candidate], str]:
    if law not in ("auto", COOLDOWN.name):
        raise UserError(f"--like goes with --law {COOLDOWN.name}, not with {law}")
    why = f"its constants are known from {counted(prior.runs, 'finished run')}"
    if prior.scale > UNLIKE:
        why += f", from which it lies {prior.scale:.1f} times as far as they lie apart: they count for less"
    return [MeanLaw(COOLDOWN, prior)], why


def _named(run: Run, law: str) -> Candidate:
    if law == TEMPORAL:
        if run.metric not in run.log.positions:
            raise UserError(
                f"the law {law!r} needs losses by position, which are not in the log",
                where=run.log.name,
                hint="log pos_NAME lists at each evaluation, or take --law auto",
            )
        return TemporalLaw()
    if law not in LAWS:
        raise UserError(f"no law is called {law!r}", hint=closest(law, list(NAMES)) or f"one of {', '.join(NAMES)}")
    if LAWS[law].needs_schedule and run.schedule is None:
        raise UserError(
            f"the law {law!r} needs the learning rate, which is not in the log",
            where=run.log.name,
            hint="give --schedule, or take --law power",
        )
    return MeanLaw(LAWS[law])


def rolling(run: Run, law: Candidate) -> Backtest:
    """The back-test of one law on what may be seen of a run."""

    def predict(last: float, targets: Array) -> tuple[float, float]:
        fitted = law.fit(run, last, starts=2)
        value = float(fitted.predict(targets).mean())
        spread = float(np.std(np.log(fitted.draws(targets[-1:], standard_noise(0, draws=100)))))
        return value, float(np.hypot(SHRINK * spread, fitted.own_error(targets[-1:])[0]))

    return backtest(*run.seen(), predict)
