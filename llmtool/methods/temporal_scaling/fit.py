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
FEWEST = 6
"""Points below which no law is fitted: the constant, the slope and its bend, each twice; the rest has strong priors."""
DRAWS = 400
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
    noise = _noise(log_loss)
    edges = np.geomspace(steps[0], steps[-1], count + 1)[1:-1]
    bins = np.searchsorted(edges, steps, side="right")
    used, members = np.unique(bins, return_inverse=True)
    size = np.bincount(members, minlength=len(used))
    mean = [np.bincount(members, weights=values, minlength=len(used)) / size for values in (steps, log_loss)]
    back = early * np.log(mean[0][-1] / mean[0])
    return Points(mean[0], mean[1], np.sqrt(HUBER**2 + noise**2 / size + back**2))


def _noise(log_loss: Array) -> float:
    """The sd of independent noise, from second differences, which a smooth curve hardly has."""
    if len(log_loss) < 5:
        return 0.0
    bend = np.diff(log_loss, 2)[len(log_loss) // 4 :]
    return float(np.median(np.abs(bend)) / 0.6745 / np.sqrt(6))


@dataclass(frozen=True)
class Fit:
    """A law with its most probable parameters; `spread` is a square root of their covariance (Laplace).

    reference: the area that r and S1 are relative to, where it is not the area of this run. elsewhere: relative sd that
    is known from outside the fit: another schedule, a rival law that back-tests better.
    """

    law: Law
    theta: Array
    spread: Array
    horizon: float
    schedule: Schedule | None
    until: float
    reference: float | None = None
    elsewhere: float = 0.0

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
    early: float = EARLY,
) -> Fit:  # fmt: skip
    """The law's best parameters on some steps of a run that ends at `horizon`."""
    points = thin(steps, loss, early=early)
    theta, spread = _solve(law, [points], [view(points.steps, horizon, schedule)], starts)
    return Fit(law, theta, spread, horizon, schedule, float(steps[-1]))


def fit_together(law: Law, runs: Sequence[tuple[Array, Array, float, Schedule]], starts: int = STARTS) -> list[Fit]:
    """One set of parameters for runs (steps, loss, horizon, schedule) that differ in their schedules only.

    Their early parts count in full: they are looked at whole, and the law is asked for whole curves.
    """
    reference = max(schedule.total for *_, schedule in runs)
    points = [thin(steps, loss, early=0.0) for steps, loss, *_ in runs]
    views = [view(p.steps, run[2], run[3], reference) for p, run in zip(points, runs, strict=True)]
    theta, spread = _solve(law, points, views, starts)
    return [Fit(law, theta, spread, run[2], run[3], float(run[0][-1]), reference) for run in runs]


def _solve(law: Law, points: Sequence[Points], views: Sequence[View], starts: int) -> tuple[Array, Array]:
    """The most probable parameters, and a square root of their covariance."""
    from scipy.optimize import least_squares

    centre = np.log([parameter.centre for parameter in law.parameters])
    sd = np.array([parameter.sd for parameter in law.parameters])
    free = np.concatenate([[True], sd > 0])
    data = list(zip(points, views, strict=True))

    def whole(x: Array) -> Array:
        theta = np.concatenate([[0.0], centre])
        theta[free] = x
        return theta

    def residuals(x: Array) -> Array:
        theta = whole(x)
        missed = [_huber((law.log_loss(theta, seen) - p.log_loss) / p.sd) for p, seen in data]
        prior = ((theta[1:] - centre) / np.where(sd > 0, sd, 1.0))[sd > 0]
        return np.concatenate([*missed, prior])

    reach = np.concatenate([[10.0], 5 * sd])[free]
    middle = np.concatenate([[points[0].log_loss[-1]], centre])[free]
    best: Any = None
    generator = np.random.default_rng(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(starts):
            theta = np.concatenate([[0.0], centre + (start > 0) * 0.7 * sd * generator.standard_normal(len(sd))])
            theta[0] = np.median(np.concatenate([p.log_loss - law.log_loss(theta, seen) for p, seen in data]))
            found = least_squares(
                residuals, np.clip(theta[free], middle - reach + 1e-6, middle + reach - 1e-6),
                bounds=(middle - reach, middle + reach), x_scale="jac", max_nfev=60,
            )  # fmt: skip
            if best is None or found.cost < best.cost - 1e-9:
                best = found
    spread = np.zeros((len(free), len(free)))
    spread[np.ix_(free, free)] = _root_of_inverse(best.jac)
    return whole(best.x), spread


def _huber(residual: Array) -> Array:
    """What squares to twice the Huber loss: the residual up to 1, then its square root's growth."""
    size = np.abs(residual)
    return np.where(size <= 1, residual, np.sign(residual) * np.sqrt(2 * np.maximum(size, 1) - 1))


def _root_of_inverse(jacobian: Array) -> Array:
    """A matrix whose square is the inverse of J'J; directions that nothing determines are cut at 5 sd."""
    _, singular, vectors = np.linalg.svd(jacobian, full_matrices=False)
    return np.asarray(vectors.T @ np.diag(1 / np.maximum(singular, 0.2)) @ vectors)
