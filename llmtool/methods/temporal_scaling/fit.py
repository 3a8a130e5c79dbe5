"""Robust fit of a law: Huber residuals of the log loss, relative priors, several starts, a Laplace posterior."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.laws import Law, View, view
from llmtool.methods.temporal_scaling.schedule import Schedule

Array = NDArray[np.float64]
HUBER = 2e-3
"""Residuals of the log loss beyond this count linearly. Laws miss real curves by some 3e-4 and far more early on."""
EARLY = 1.2e-2
"""A law misses what lies further back by more: the sd of a point grows by this for each factor e between it and the
last one. It takes the place of a fixed cut, which a run without a long warm-up slipped through; benchmarks/scaling.py
chooses this value whichever of three projects is left out."""
POINTS = 60
STARTS = 4
ANY = 10.0
"""Sd of a log of which nothing is known."""
FEWEST = 6
"""Points below which no law is fitted: the constant, the slope and its bend, each twice; the rest has strong priors."""
DRAWS = 400
TOGETHER = 4.0
"""What a law misses is alike in neighbouring points: for the gain of a fall that has begun, this many tell as much as
one. Taken for independent they were sure of it, and wrong, half-way through the cosines of our longer runs. The same
holds for all parameters where their prior comes from earlier runs, and not from what many projects have in common."""
FALL = 4e-3
"""Relative sd for a fall of the rate from its peak to zero that lies ahead."""


@dataclass(frozen=True)
class Points:
    """What a law is fitted to: means of bins that are uniform in log step, with the sd of each log loss."""

    steps: Array
    log_loss: Array
    sd: Array


def thin(steps: Array, loss: Array, count: int = POINTS, early: float = EARLY) -> Points:
    """At most `count` points. A row a step of noisy training loss is averaged, a smooth curve is left as it is."""
    log_loss = np.log(loss)
    scatter = noise(log_loss)
    edges = np.geomspace(steps[0], steps[-1], count + 1)[1:-1]
    bins = np.searchsorted(edges, steps, side="right")
    used, members = np.unique(bins, return_inverse=True)
    size = np.bincount(members, minlength=len(used))
    mean = [np.bincount(members, weights=values, minlength=len(used)) / size for values in (steps, log_loss)]
    back = early * np.log(mean[0][-1] / mean[0])
    return Points(mean[0], mean[1], np.sqrt(HUBER**2 + scatter**2 / size + back**2))


def noise(log_loss: Array) -> float:
    """The sd of independent noise, from second differences, which a smooth curve hardly has."""
    if len(log_loss) < 5:
        return 0.0
    bend = np.diff(log_loss, 2)[len(log_loss) // 4 :]
    return float(np.median(np.abs(bend)) / 0.6745 / np.sqrt(6))


@dataclass(frozen=True)
class Prior:
    """What is known of a law's parameters before a run is looked at: normal in their logs.

    centre, sd [parameters], the constant's first; sd 0 holds one fixed. weight [rows, parameters]: a root of the
    inverse covariance of those that anything is known of. reference: the area, in peak-steps, that r and S1 are
    relative to, where it is not that of the run; runs: finished ones that all this comes from; scale: what their sd was
    multiplied by, since the run contradicts them.
    """

    centre: Array
    sd: Array
    weight: Array
    reference: float | None = None
    runs: int = 0
    scale: float = 1.0


def usual(law: Law, level: float, wider: float = 1.0) -> Prior:
    """The prior of a law for a run of which nothing else is known; level: the log of its last loss."""
    sd = np.array([ANY, *(wider * parameter.sd for parameter in law.parameters)])
    centre = np.array([level, *np.log([parameter.centre for parameter in law.parameters])])
    known = np.flatnonzero(sd[1:] > 0) + 1
    weight = np.zeros((len(known), len(sd)))
    weight[np.arange(len(known)), known] = 1 / sd[known]
    return Prior(centre, sd, weight)


@dataclass(frozen=True)
class Fit:
    """A law with its most probable parameters; `spread` is a square root of their covariance (Laplace).

    reference: the area that r and S1 are relative to, where it is not the area of this run. elsewhere: relative sd that
    is known from outside the fit: another schedule, a rival law that back-tests better. earlier: finished runs of the
    same project that the prior comes from.
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

    def own_error(self, steps: Array) -> Array:
        """Relative sd that the law itself errs by at some steps: more further ahead, and the more the rate falls."""
        drift = self.law.drift * np.log(np.maximum(steps / self.until, 1.0))
        fall = np.zeros(len(drift))
        if self.schedule is not None:
            fall = FALL * np.maximum(self.schedule.rate(np.array([self.until])) - self.schedule.rate(steps), 0.0)
        return np.sqrt(drift**2 + fall**2 + self.elsewhere**2)

    def lower(self, steps: Array) -> Array:
        """How much lower the log loss is [steps] for each sd that the gain lies above its prior, as in some projects.

        The sd is what the part of the run looked at leaves open: a fall of the rate that has been seen tells its gain,
        one that lies ahead does not. The other parameters go with it as they must. None is left where the prior comes
        from earlier runs of the project.
        """
        out = np.zeros(len(steps))
        covariance = self.spread @ self.spread.T
        for place, parameter in enumerate(() if self.earlier else self.law.parameters, start=1):
            own = float(covariance[place, place])
            if parameter.above == 0 or own == 0:
                continue
            above = parameter.above / self.law.taken(self.theta)
            # The posterior variance, had the prior been as wide as that and the points told as little as they do.
            told = max(1 / own - 1 / parameter.sd**2, 0.0) / TOGETHER
            wide = 1 / (told + 1 / (parameter.sd**2 + above**2))
            path = covariance[place] / own * np.sqrt(max(wide - own, 0.0))
            points, little = self.view(steps), 1e-2
            moved = self.law.log_loss(self.theta + little * path, points)
            out += np.maximum(self.law.log_loss(self.theta, points) - moved, 0.0) / little
        return out

    def draws(self, steps: Array, noise: Array) -> Array:
        """Losses under parameters drawn from the posterior: `noise` [draws, parameters] is standard normal."""
        points = self.view(steps)
        theta = self.theta + noise[:, : len(self.theta)] @ self.spread.T
        return np.asarray(np.exp([self.law.log_loss(row, points) for row in theta]))


def standard_noise(seed: int, parameters: int = 10, draws: int = DRAWS) -> Array:
    """Antithetic standard normal numbers: their mean is exactly zero."""
    half = np.random.default_rng(seed).standard_normal((draws // 2, parameters))
    return np.concatenate([half, -half])


def fit(
    law: Law, steps: Array, loss: Array, horizon: float, schedule: Schedule | None = None, starts: int = STARTS,
    early: float = EARLY, prior: Prior | None = None,
) -> Fit:  # fmt: skip
    """The law's best parameters on some steps of a run that ends at `horizon`."""
    points = thin(steps, loss, early=early)
    reference = None if prior is None else prior.reference
    theta, spread = _solve(law, [points], [view(points.steps, horizon, schedule, reference)], starts, prior)
    earlier = 0 if prior is None else prior.runs
    return Fit(law, theta, spread, horizon, schedule, float(steps[-1]), reference, earlier=earlier)


def fit_together(law: Law, runs: Sequence[tuple[Array, Array, float, Schedule]], starts: int = STARTS) -> list[Fit]:
    """One set of parameters for runs (steps, loss, horizon, schedule) that differ in their schedules only.

    Their early parts count in full: they are looked at whole, and the law is asked for whole curves.
    """
    reference = max(schedule.total for *_, schedule in runs)
    points = [thin(steps, loss, early=0.0) for steps, loss, *_ in runs]
    views = [view(p.steps, run[2], run[3], reference) for p, run in zip(points, runs, strict=True)]
    theta, spread = _solve(law, points, views, starts)
    return [Fit(law, theta, spread, run[2], run[3], float(run[0][-1]), reference) for run in runs]


def _solve(
    law: Law, points: Sequence[Points], views: Sequence[View], starts: int, prior: Prior | None = None
) -> tuple[Array, Array]:
    """The most probable parameters, and a square root of their covariance."""
    from scipy.optimize import least_squares

    prior = prior or usual(law, float(points[0].log_loss[-1]))
    free = prior.sd > 0
    data = list(zip(points, views, strict=True))

    def whole(x: Array) -> Array:
        theta = prior.centre.copy()
        theta[free] = x
        return theta

    def residuals(x: Array) -> Array:
        theta = whole(x)
        missed = [_huber((law.log_loss(theta, seen) - p.log_loss) / p.sd) for p, seen in data]
        return np.concatenate([*missed, prior.weight @ (theta - prior.centre)])

    reach = np.concatenate([[ANY], 5 * prior.sd[1:]])[free]
    middle = prior.centre[free]
    best: Any = None
    generator = np.random.default_rng(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(starts):
            moved = (start > 0) * 0.7 * prior.sd[1:] * generator.standard_normal(len(prior.sd) - 1)
            theta = np.concatenate([[0.0], prior.centre[1:] + moved])
            theta[0] = np.median(np.concatenate([p.log_loss - law.log_loss(theta, seen) for p, seen in data]))
            found = least_squares(
                residuals, np.clip(theta[free], middle - reach + 1e-6, middle + reach - 1e-6),
                bounds=(middle - reach, middle + reach), x_scale="jac", max_nfev=60,
            )  # fmt: skip
            if best is None or found.cost < best.cost - 1e-9:
                best = found
    told = np.array(best.jac)
    if prior.runs:
        told[: len(told) - len(prior.weight)] /= np.sqrt(TOGETHER)
    spread = np.zeros((len(free), len(free)))
    spread[np.ix_(free, free)] = _root_of_inverse(told)
    return whole(best.x), spread


def _huber(residual: Array) -> Array:
    """What squares to twice the Huber loss: the residual up to 1, then its square root's growth."""
    size = np.abs(residual)
    return np.where(size <= 1, residual, np.sign(residual) * np.sqrt(2 * np.maximum(size, 1) - 1))


def _root_of_inverse(jacobian: Array) -> Array:
    """A matrix whose square is the inverse of J'J; directions that nothing determines are cut at 5 sd."""
    _, singular, vectors = np.linalg.svd(jacobian, full_matrices=False)
    return np.asarray(vectors.T @ np.diag(1 / np.maximum(singular, 0.2)) @ vectors)
