"""Robust fit of a law: Huber residuals of the log loss, relative priors, several starts, a Laplace posterior."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.laws import USUAL_PATH, Law, Parameter, View, at_high_rate, view
from llmtool.methods.temporal_scaling.misfit import NONE, USUAL, Misfit
from llmtool.methods.temporal_scaling.points import Points, thin
from llmtool.methods.temporal_scaling.schedule import Schedule

Array = NDArray[np.float64]
STARTS = 4
ANY = 10.0
"""Sd of a log of which nothing is known."""
FEWEST = 6
"""Points below which no law is fitted: the constant, the slope and its bend, each twice; the rest has strong priors."""
DRAWS = 400
LITTLE = 1e-2
"""Of an sd: the step of the derivatives by parameters."""
TOGETHER = 4.0
"""Beside earlier runs errors count as independent (misfit.BESIDE), though neighbours are missed alike: this many points
tell as much as one."""
FALL = 4e-3
"""Relative sd for a fall of the rate from its peak to zero that lies ahead."""
UNCOUNTED = 1.2e-2
"""The same where nobody counts the updates: with a tenth of those that are supposed, or twenty times as many, a fall
over the last fifth ends 1.7% off."""
BEYOND = 0.025
"""What such a fall may take off beyond what its first half told, over the loss, for each factor e by which the rates
sum up to more than usual: from half of cosines where they are 25, 34, 50 and 75 it was 1.2, 1.7, 2.5 and 3.2%."""
SEEN_BEYOND = 75.0
"""The largest sum that this was seen at."""
STEEPER = 0.75
"""The share of a slope's growth that is an sd of what it goes back by, of the log loss over the log step: with it the
ends of 24 of 25 runs of an 8B model, looked at before the bend that ends the first steep fall, lie inside from 30%."""


@dataclass(frozen=True)
class Prior:
    """What is known of a law's parameters before a run is looked at: normal in their logs.

    centre, sd [parameters], the constant's first; sd 0 holds one fixed. weight [rows, parameters]: a root of the
    inverse covariance of those that anything is known of. reference: the area, in peak-steps, that r and S1 are
    relative to, where it is not that of the run; runs: finished ones that all this comes from; scale: what their sd was
    multiplied by, since the run contradicts them.

    above, below [rows]: what a row counts where it is positive, and where it is negative, of a prior that is lopsided;
    below only while the most probable parameters are sought (laws.Parameter).
    """

    centre: Array
    sd: Array
    weight: Array
    above: Array | float = 1.0
    below: Array | float = 1.0
    reference: float | None = None
    runs: int = 0
    scale: float = 1.0

    def missed(self, theta: Array) -> Array:
        """How far some parameters lie from what is known, in sd [rows]: squared and summed, twice the log density."""
        rows = self.weight @ (theta - self.centre)
        return np.asarray(np.where(rows > 0, self.above, self.below) * rows)

    def held(self, theta: Array) -> Array:
        """What the prior tells of parameters around the most probable ones [rows, parameters]."""
        rows = self.weight @ (theta - self.centre)
        return np.asarray(np.where(rows > 0, self.above, 1.0)[:, None] * self.weight)


def usual(law: Law, level: float, wider: float = 1.0, schedule: Schedule | None = None) -> Prior:
    """The prior of a law for a run of which nothing else is known; level: the log of its last loss."""
    sd = np.array([ANY, *(wider * parameter.sd for parameter in law.parameters)])
    centre = np.array([level, *np.log([parameter.centre for parameter in expected(law, schedule)])])
    known = np.flatnonzero(sd[1:] > 0) + 1
    weight = np.zeros((len(known), len(sd)))
    weight[np.arange(len(known)), known] = 1 / sd[known]
    free = [parameter for parameter in law.parameters if parameter.sd > 0]
    above = np.array([each.sd / np.hypot(each.sd, each.above) for each in free])
    below = np.array([each.sd / np.hypot(each.sd, each.below) for each in free])
    return Prior(centre, sd, weight, above, below)


def expected(law: Law, schedule: Schedule | None) -> tuple[Parameter, ...]:
    """A law's parameters with their priors for a run of some schedule."""
    return tuple(parameter.beside(schedule) for parameter in law.parameters)


@dataclass(frozen=True)
class Fit:
    """A law with its most probable parameters; `spread` is a square root of their covariance (Laplace).

    reference: the area that r and S1 are relative to, where it is not the area of this run. elsewhere: relative sd that
    is known from outside the fit: another schedule, a rival law that back-tests better. earlier: finished runs of the
    same project that the prior comes from. cost: twice the negative log posterior density, up to a constant.

    other: the most probable parameters were it a run at a high rate (laws.at_high_rate). share: how much of the way
    there is an sd, so that draws of which every other one stays (intervals.one_sided) lie as far off as plausible.
    steeper: by how much the slope of the log loss over the log step has grown (doubts.steepening), as far as it counts.
    """

    law: Law
    theta: Array
    spread: Array
    horizon: float
    schedule: Schedule | None
    until: float
    reference: float | None = None
    elsewhere: float = 0.0
    earlier: int = 0
    cost: float = 0.0
    other: Array | None = None
    share: float = 0.0
    steeper: float = 0.0

    @property
    def name(self) -> str:
        """The law's name."""
        return self.law.name

    @property
    def formula(self) -> str:
        """The law in a line."""
        return self.law.formula

    @property
    def knows_rate(self) -> bool:
        """Whether the law takes the rate into account."""
        return self.law.needs_schedule

    def parameters(self) -> dict[str, float]:
        """The fitted parameters by name."""
        return self.law.named(self.theta)

    def asymptote(self) -> float | None:
        """The loss of an endless run at the peak rate; None where the law has none."""
        return self.law.asymptote(self.theta)

    def predict(self, steps: Array) -> Array:
        """Losses at some steps."""
        return np.asarray(np.exp(self.law.log_loss(self.theta, self.view(steps))))

    def view(self, steps: Array) -> View:
        """What the law knows of some steps."""
        return view(np.asarray(steps, dtype=np.float64), self.horizon, self.schedule, self.reference)

    def own_error(self, steps: Array, scale: float = 1.0) -> Array:
        """Relative sd that the law itself errs by at some steps: more further ahead, and the more the rate falls; times
        `scale`, but for what speaks against this very run."""
        drift = scale * self.law.drift * np.log(np.maximum(steps / self.until, 1.0))
        fall = np.zeros(len(drift))
        if self.schedule is not None:
            fall = (scale * FALL if self.schedule.updates == 1 else UNCOUNTED) * self._fall(steps)
        return np.sqrt(drift**2 + fall**2 + self.elsewhere**2)

    def lower(self, steps: Array) -> Array:
        """How much lower the log loss is [steps] for each sd towards projects whose falls of the rate take off more
        than most: by the gain alone, as far as the points leave it open, or as in `other`, whichever is more.

        None is left where the prior comes from earlier runs of the project.
        """
        out = np.zeros(len(steps))
        if self.earlier or self.schedule is None:
            return out
        points = self.view(steps)
        level = self.law.log_loss(self.theta, points)
        covariance = self.spread @ self.spread.T
        for place, parameter in enumerate(expected(self.law, self.schedule), start=1):
            own = float(covariance[place, place])
            if parameter.above == 0 or own == 0 or self.theta[place] > np.log(parameter.centre):
                continue  # above the centre, the posterior is as wide as that already
            # The posterior variance, had the prior been as wide as that: a fall that has been seen tells its gain, one
            # that lies ahead does not. The other parameters go with it as they must.
            told = max(1 / own - 1 / parameter.sd**2, 0.0)
            wide = 1 / (told + 1 / (parameter.sd**2 + parameter.above**2))
            path = LITTLE * covariance[place] / own * np.sqrt(max(wide - own, 0.0))
            out += np.maximum(level - self.law.log_loss(self.theta + path, points), 0.0) / LITTLE
        if self.other is not None:
            out = np.maximum(out, self.share * (level - self.law.log_loss(self.other, points)))
        # Where the rate falls early, little of the loss at rest is seen; a sum that is unknown, too, may be any there.
        most = np.log(SEEN_BEYOND / USUAL_PATH)
        known = np.clip(np.log((self.schedule.path or USUAL_PATH) / USUAL_PATH), 0.0, most)
        further = self.schedule.adams * known + (1 - self.schedule.adams) * (1 - self.schedule.rests) * most
        return np.asarray(np.maximum(out, BEYOND * further * self._fall(steps)))

    def higher(self, steps: Array) -> Array:
        """How much higher the log loss is [steps] for each sd towards a slope over the log step that goes back to what
        it was, where it has grown."""
        return STEEPER * self.steeper * np.log(np.maximum(steps / self.until, 1.0))

    def _fall(self, steps: Array) -> Array:
        """By how much the rate falls, over its peak, from what was looked at to some steps."""
        assert self.schedule is not None
        return np.maximum(self.schedule.rate(np.array([self.until])) - self.schedule.rate(steps), 0.0)

    def draws(self, steps: Array, noise: Array) -> Array:
        """Losses under parameters drawn from the posterior: `noise` [draws, parameters] is standard normal.

        The law is linearized, as the posterior was: of parameters that trade against one another the points hold a
        combination, and far along the others the law itself leaves them.
        """
        points, spread = self.view(steps), self.spread.T
        middle = self.law.log_loss(self.theta, points)
        moved = [self.law.log_loss(self.theta + LITTLE * row, points) - middle for row in spread]
        return np.asarray(np.exp(middle + noise[:, : len(spread)] @ (np.array(moved) / LITTLE)))


def standard_noise(seed: int, parameters: int = 10, draws: int = DRAWS) -> Array:
    """Antithetic standard normal numbers: their mean is exactly zero."""
    half = np.random.default_rng(seed).standard_normal((draws // 2, parameters))
    return np.concatenate([half, -half])


def fit(
    law: Law, steps: Array, loss: Array, horizon: float, schedule: Schedule | None = None, starts: int = STARTS,
    misfit: Misfit = USUAL, prior: Prior | None = None,
) -> Fit:  # fmt: skip
    """The law's best parameters on some steps of a run that ends at `horizon`."""
    points = thin(steps, loss)
    prior = prior or usual(law, float(points.log_loss[-1]), schedule=schedule)
    seen = view(points.steps, horizon, schedule, prior.reference)
    theta, spread, cost = _solve(law, [points], [seen], starts, misfit, prior)
    theta[0] += points.apart(law.log_loss(theta, seen))
    return Fit(
        law, theta, spread, horizon, schedule, float(steps[-1]), prior.reference, earlier=prior.runs, cost=cost
    )  # fmt: skip


def beside_high_rate(fitted: Fit, steps: Array, loss: Array) -> Fit:
    """The same with what its end would be were it a run at a high rate, where the rate falls after what was looked at.

    The points tell the two kinds of project apart by how soon the loss came to rest at the peak, and by the fall so
    far: beforehand either is as likely, and where they fit the other worse, it counts for less.
    """
    schedule = fitted.schedule
    if schedule is None or not fitted.knows_rate or fitted.earlier or not schedule.decays_after(fitted.until):
        return fitted
    law = at_high_rate(fitted.law)
    prior = replace(usual(law, float(np.log(loss[-1])), schedule=schedule), reference=fitted.reference)
    other = fit(law, steps, loss, fitted.horizon, schedule, starts=2, prior=prior)
    odds = np.exp(np.clip(other.cost - fitted.cost, -50, 50) / 2)
    return replace(fitted, other=other.theta, share=float(np.sqrt(2 / (1 + odds))))


def fit_together(law: Law, runs: Sequence[tuple[Array, Array, float, Schedule]], starts: int = STARTS) -> list[Fit]:
    """One set of parameters for runs (steps, loss, horizon, schedule) that differ in their schedules only.

    Their early parts count in full: they are looked at whole, and the law is asked for whole curves.
    """
    reference = max(schedule.total for *_, schedule in runs)
    points = [thin(steps, loss) for steps, loss, *_ in runs]
    views = [view(p.steps, run[2], run[3], reference) for p, run in zip(points, runs, strict=True)]
    theta, spread, _ = _solve(law, points, views, starts, NONE, usual(law, float(points[0].log_loss[-1])))
    return [Fit(law, theta, spread, run[2], run[3], float(run[0][-1]), reference) for run in runs]


def _solve(
    law: Law, points: Sequence[Points], views: Sequence[View], starts: int, misfit: Misfit, prior: Prior
) -> tuple[Array, Array, float]:
    """The most probable parameters, a square root of their covariance, and Fit.cost."""
    from scipy.optimize import least_squares

    free = prior.sd > 0
    data = [(p, seen, misfit.whitening(p.steps, p.sd)) for p, seen in zip(points, views, strict=True)]

    def whole(x: Array) -> Array:
        theta = prior.centre.copy()
        theta[free] = x
        return theta

    def residuals(x: Array) -> Array:
        theta = whole(x)
        missed = [_huber(white @ (law.log_loss(theta, seen) - p.log_loss)) for p, seen, white in data]
        return np.concatenate([*missed, prior.missed(theta)])

    reach = np.concatenate([[ANY], 5 * prior.sd[1:]])[free]
    middle = prior.centre[free]
    best: Any = None
    generator = np.random.default_rng(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(starts):
            moved = (start > 0) * 0.7 * prior.sd[1:] * generator.standard_normal(len(prior.sd) - 1)
            theta = np.concatenate([[0.0], prior.centre[1:] + moved])
            theta[0] = np.median(np.concatenate([p.log_loss - law.log_loss(theta, seen) for p, seen, _ in data]))
            found = least_squares(
                residuals, np.clip(theta[free], middle - reach + 1e-6, middle + reach - 1e-6),
                bounds=(middle - reach, middle + reach), x_scale="jac", max_nfev=60,
            )  # fmt: skip
            if best is None or found.cost < best.cost - 1e-9:
                best = found
    points_tell = np.array(best.jac)[: -len(prior.weight)] / np.sqrt(TOGETHER if prior.runs else 1.0)
    told = np.concatenate([points_tell, prior.held(whole(best.x))[:, free]])
    spread = np.zeros((len(free), len(free)))
    spread[np.ix_(free, free)] = _root_of_inverse(told)
    return whole(best.x), spread, 2 * float(best.cost)


def _huber(residual: Array) -> Array:
    """What squares to twice the Huber loss: the residual up to 1, then its square root's growth."""
    size = np.abs(residual)
    return np.where(size <= 1, residual, np.sign(residual) * np.sqrt(2 * np.maximum(size, 1) - 1))


def _root_of_inverse(jacobian: Array) -> Array:
    """A matrix whose square is the inverse of J'J; directions that nothing determines are cut at 5 sd."""
    _, singular, vectors = np.linalg.svd(jacobian, full_matrices=False)
    return np.asarray(vectors.T @ np.diag(1 / np.maximum(singular, 0.2)) @ vectors)
