"""Finished runs of the same project as a prior: what a prefix at the peak cannot tell, they have seen.

What a fall of the rate takes off differs among projects by a factor of three, and hardly within one. The law is fitted
to each finished run whole, under a prior too wide to matter; the runs' parameters, each with its covariance, are
measurements of a normal distribution over runs (a random-effects model, by expectation maximization), whose predictive
is the prior of the next run. Its covariance is full: models of other sizes in one project differ in constant, slope and
gain together, and a prefix tells the first two. One earlier run gives a centre, and SCATTER how far others lie from it.

The same runs tell how far to trust this: each is cut where the run in question stands and told by the others, and what
is missed at the ends scales the interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.fit import FEWEST, Fit, Prior, fit, standard_noise, usual
from llmtool.methods.temporal_scaling.intervals import SHRINK
from llmtool.methods.temporal_scaling.laws import COOLDOWN
from llmtool.methods.temporal_scaling.misfit import BESIDE
from llmtool.methods.temporal_scaling.run import Run, cut_at

Array = NDArray[np.float64]
WIDER = 3.0
"""The usual prior's sd times this, for a run that is looked at whole."""
SCATTER = {
    "constant": 0.03, "r": 0.15, "alpha": 0.05, "gain": 0.3, "C": 0.15, "beta": 0.05, "gamma": 0.05, "p": 0.08,
}  # fmt: skip
"""Sd of the logs of the parameters among runs of one project, before any are seen. That of the gain is the usual one:
half of it left nine in ten ends within 2.7 sd, not 1.6, where one earlier run was given."""
WEIGHT = 4.0
"""Runs that SCATTER counts for."""
ENDED = 0.98
"""The share of its horizon that a finished run's last row has reached: evaluations seldom fall on the last step."""
STEPS = 30
"""Of expectation maximization; the covariance then moves by under a per cent."""
BELIEVED = 2.0
"""Runs that the interval's own scale counts for against what was missed at earlier runs' ends."""
APART = 1.5
"""Peak rates, and batches, further apart than by this factor are those of different recipes. Not fitted to anything."""
LONGER = 3.3
"""The same for the number of steps: mpl's runs of 72,000 are told well by those of 24,000, public ones of 11,000 and
19,000 1.3 to 1.8% too low by those of 3,000 and 5,000."""
MOST = 0.5
"""Of a rate's peak: with more of a fall than this ahead, one earlier run is not enough to be sure. Of all 132 pairs of
our own runs, one told by one other from half, 53 forecasts were confident and 85% of these held; those with a whole
fall ahead erred by up to 3.8%, for within the project gain differs by a factor of two."""


@dataclass(frozen=True)
class Earlier:
    """Finished runs, and the law's parameters fitted to each: means [runs, parameters], covariances [runs, ., .].

    reference: the area, in peak-steps, that r and S1 are relative to.
    """

    runs: tuple[Run, ...]
    means: Array
    covariances: Array
    reference: float

    def prior(self, without: int | None = None) -> Prior:
        """The predictive distribution of the next run's parameters, from all of them or all but one."""
        keep = [place for place in range(len(self.runs)) if place != without]
        scatter = np.array([SCATTER["constant"], *(SCATTER[each.name] for each in COOLDOWN.parameters)])
        centre, covariance = predictive(self.means[keep], self.covariances[keep], scatter)
        weight = np.linalg.inv(np.linalg.cholesky(covariance))
        return Prior(centre, np.sqrt(np.diag(covariance)), weight, reference=self.reference, runs=len(keep))


def learn(runs: Sequence[Run], new: Run) -> Earlier:
    """The law fitted to each of some finished runs, for a new one of the same loss and tokenizer.

    A UserError names the run that has not ended, measures another loss, or has no learning rate.
    """
    if new.schedule is None:
        raise UserError("has no learning rate, which --like needs", where=new.log.name, hint="give --schedule")
    reference = new.schedule.total
    means, covariances = [], []
    for run in runs:
        if run.metric != new.metric:
            raise UserError(f"the {run.metric} loss, and of {new.log.name} it is the {new.metric} loss",
                            where=run.log.name, hint="give --metric NAME")  # fmt: skip
        if run.log.tokenizer and new.log.tokenizer and run.log.tokenizer != new.log.tokenizer:
            raise UserError("has another tokenizer, so that its losses count other tokens", where=run.log.name)
        if run.open_end or run.until < ENDED * run.horizon:
            end = f"step {run.until:,.0f}" + ("" if run.open_end else f" of {run.horizon:,.0f}")
            raise UserError(f"has not ended ({end})", where=run.log.name, hint="--like takes finished runs")
        if run.schedule is None:
            raise UserError("has no learning rate, which --like needs", where=run.log.name, hint="give --schedule")
        steps, loss = run.seen()
        if len(steps) < FEWEST:
            raise UserError(f"only {counted(len(steps), 'point')}, the warm-up apart: too few to learn from",
                            where=run.log.name)  # fmt: skip
        wide = replace(usual(COOLDOWN, float(np.log(loss[-1])), WIDER), above=1.0, below=1.0, reference=reference)
        made = fit(COOLDOWN, steps, loss, run.horizon, run.schedule, starts=2, misfit=BESIDE, prior=wide)
        means.append(made.theta)
        covariances.append(made.spread @ made.spread.T)
    return Earlier(tuple(runs), np.array(means), np.array(covariances), reference)


def other_recipe(runs: Sequence[Run], new: Run) -> tuple[str, ...]:
    """In what the logs show that no earlier run is like a new one, a line each: peak rate, tokens a step, steps."""
    lines = []
    facts: tuple[tuple[str, Callable[[Run], float | None], float], ...] = (
        ("peak learning rate", lambda run: run.log.peak_rate, APART),
        ("number of tokens a step", lambda run: run.log.tokens_per_step, APART),
        ("number of steps", lambda run: None if run.open_end else run.horizon, LONGER),
    )
    for what, fact, factor in facts:
        own, others = fact(new), [value for run in runs if (value := fact(run))]
        if not own or not others:
            continue
        nearest = min(others, key=lambda value: abs(np.log(value / own)))
        if not 1 / factor <= nearest / own <= factor:
            lines.append(f"the {what} is {_short(own)}, and that of the nearest earlier run {_short(nearest)}: another "
                         "recipe may end otherwise")  # fmt: skip
    return tuple(lines)


def lone(runs: Sequence[Run], new: Run) -> tuple[str, ...]:
    """What a single earlier run leaves open, a line: nothing says how far others lie from it while most of the fall of
    the rate is ahead."""
    if len(runs) != 1 or new.schedule is None:
        return ()
    now, then = new.schedule.rate(np.array([new.until, new.horizon]))
    if now - then <= MOST:
        return ()
    return ("most of the fall of the rate lies ahead, and one earlier run does not tell how far others lie from it "
            "(--like again)",)  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def agreed(prior: Prior, run: Run) -> Prior:
    """The prior of earlier runs for one that may be unlike them: wider by as much as what is seen of it contradicts.

    The most probable parameters lie off the centre by a squared distance that is, as a mean over runs of the project,
    the number of directions which the run determines by itself. More than that scales the prior's covariance, against
    BELIEVED runs' worth of none (an inverse gamma scale, so that the prior becomes Student's).
    """
    made = fit(COOLDOWN, *run.seen(), run.horizon, run.schedule, starts=2, misfit=BESIDE, prior=prior)
    away = prior.weight @ (made.theta - prior.centre)
    left = prior.weight @ made.spread
    told = len(away) - float(np.sum(left**2))
    off = float(np.sum(away**2))
    scale = float(np.sqrt(max((BELIEVED + off) / (BELIEVED + max(told, 0.0)), 1.0)))
    return replace(prior, sd=scale * prior.sd, weight=prior.weight / scale, scale=scale)


def predictive(means: Array, covariances: Array, scatter: Array) -> tuple[Array, Array]:
    """Centre and covariance of the next run's parameters, given measurements of some runs' with their covariances.

    scatter: sd among runs that is believed beforehand, as of WEIGHT runs; the usual prior holds the centre loosely.
    """
    held = usual(COOLDOWN, float(means[:, 0].mean()), WIDER)
    loose = held.weight.T @ held.weight
    among = np.diag(scatter**2)
    centre, doubt = means.mean(axis=0), among
    for _ in range(STEPS):
        precisions = np.linalg.inv(covariances + among)
        doubt = np.linalg.inv(precisions.sum(axis=0) + loose)
        centre = doubt @ (np.einsum("rij,rj->i", precisions, means) + loose @ held.centre)
        drawn = among @ precisions
        effects = np.einsum("rij,rj->ri", drawn, means - centre)
        gathered = effects.T @ effects + (among - drawn @ among).sum(axis=0)
        among = (WEIGHT * np.diag(scatter**2) + gathered) / (WEIGHT + len(means))
    return centre, among + doubt


@dataclass(frozen=True)
class Trial:
    """What telling each earlier run by the others, from the same share of it, would have missed at its end.

    errors: relative; surprise: their root mean square over the sd that was claimed, drawn to 1, and wider for few runs.
    """

    errors: tuple[float, ...]
    surprise: float

    @property
    def error(self) -> float:
        """Root mean square of the errors."""
        return float(np.sqrt(np.mean(np.square(self.errors))))


def trial(earlier: Earlier, share: float) -> Trial | None:
    """Each earlier run cut at a share of its steps and told by the others; None with fewer than two that can be."""
    errors, ratios = [], []
    for place, run in enumerate(earlier.runs if len(earlier.runs) > 1 else ()):
        part = cut_at(run, share * run.horizon)
        steps, loss = part.seen()
        if len(steps) < FEWEST:
            continue
        prior = agreed(earlier.prior(place), part)
        made = fit(COOLDOWN, steps, loss, run.horizon, run.schedule, starts=2, misfit=BESIDE, prior=prior)
        last = run.steps >= ENDED * run.horizon
        error = float(made.predict(run.steps[last]).mean() / run.loss[last].mean() - 1)
        errors.append(error)
        made = replace(made, elsewhere=float(np.hypot(part.youth, part.end_noise)))
        ratios.append(error / sd_at(made, run.horizon))
    if len(errors) < 2:
        return None
    surprise = np.sqrt((BELIEVED + np.sum(np.square(ratios))) / (BELIEVED + len(ratios)))
    return Trial(tuple(errors), float(surprise) * _few(BELIEVED + len(ratios)))


def _few(runs: float) -> float:
    """The 95% point of Student's distribution over the normal's: a scale told by few runs is uncertain itself."""
    from scipy.stats import norm, t

    return float(t.ppf(0.95, runs) / norm.ppf(0.95))


def sd_at(made: Fit, step: float) -> float:
    """The relative sd that a fit claims at a step."""
    at = np.array([step])
    spread = float(np.std(np.log(made.draws(at, standard_noise(0, draws=100)))))
    return float(np.hypot(SHRINK * spread, made.own_error(at)[0]))
