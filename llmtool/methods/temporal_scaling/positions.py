"""The Temporal Scaling Law over token positions, and its parameters over the steps of a run.

The paper: at every step the loss at position i is a hyperbola, L_i = a0 / (1 + a1 i) + a2, whose parameters move with
the number of steps N in ways that an early part of the run shows. Ours: the form L_i = a2 + g / (i + k) with one k for
all steps (alone, a1 = 1 / k runs to its bounds), and the regressors of g and a2, chosen by back-test inside what may be
looked at. Fixed evaluation windows make the noise of the positions the same at all steps (86% of its variance in the
public example). It does not touch g and a2, being a residual, but hides k: taken off, k is 2.0 in and out of
distribution; left in, it ran to 0 in one of the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.run import Run
from llmtool.methods.temporal_scaling.schedule import Schedule

Array = NDArray[np.float64]
FORMS = {
    "log": ("log N",),
    "log, rate": ("log N", "rate"),
    "power": ("N^-1/2",),
    "power, rate": ("N^-1/2", "rate"),
    "log, power, rate": ("log N", "N^-1/2", "rate"),
}
"""Regressors of g and a2 beside the constant."""
FEWEST_STEPS = 8
STEPS_A_REGRESSOR = 8
DRIFT = 5e-3
FLOOR = 1e-3
"""Losses are positive; a regression that leaves them is refused by its back-test."""


@dataclass(frozen=True)
class Hyperbolas:
    """A hyperbola at each step: g and a2 [steps], one k; `common` [positions] is the noise that all steps share."""

    steps: Array
    g: Array
    a2: Array
    k: float
    common: Array
    residual: Array

    @property
    def r2(self) -> float:
        """Share of the variance over positions that the hyperbolas explain, the common noise apart."""
        left = self.residual - self.common
        curve = self.g[:, None] / (np.arange(1, len(self.common) + 1) + self.k)
        spread = curve - curve.mean(axis=1, keepdims=True)
        return float(1 - (left**2).sum() / ((left**2).sum() + (spread**2).sum()))

    @property
    def common_share(self) -> float:
        """Share of the residual variance that all steps have in common."""
        return float(len(self.steps) * (self.common**2).sum() / max((self.residual**2).sum(), 1e-300))


def hyperbolas(steps: Array, losses: Array) -> Hyperbolas:
    """Fit losses [steps, positions]: for a k, g and a2 are a linear regression.

    k is the one that leaves least of what is not common to all steps, so two steps are the fewest.
    """
    from scipy.optimize import minimize_scalar

    positions = np.arange(1, losses.shape[1] + 1)

    def solve(log_k: float) -> tuple[Array, Array]:
        design = np.stack([np.ones(len(positions)), 1 / (positions + np.exp(log_k))], axis=1)
        solution = np.linalg.lstsq(design, losses.T, rcond=None)[0]
        return solution, losses - (design @ solution).T

    bounds = (np.log(1e-3), np.log(len(positions)))
    found = minimize_scalar(lambda log_k: solve(log_k)[1].var(axis=0).sum(), bounds=bounds, method="bounded")
    solution, residual = solve(found.x)
    return Hyperbolas(steps, solution[1], solution[0], float(np.exp(found.x)), residual.mean(axis=0), residual)


def regressors(form: str, steps: Array, horizon: float, schedule: Schedule | None) -> Array:
    """One row a step; N is relative to the horizon, the rate to its peak."""
    n = steps / horizon
    columns = {
        "log N": np.log(n),
        "N^-1/2": n**-0.5,
        "rate": schedule.rate(steps) if schedule else np.ones(len(steps)),
    }
    return np.stack([np.ones(len(steps)), *(columns[name] for name in FORMS[form])], axis=1)


@dataclass(frozen=True)
class TemporalFit:
    """The law over positions and steps. coefficients, spread: of g and a2 by regressor, [2, C] and [2, C, C].

    together: the correlation of what the regressions of g and a2 miss, so that both are drawn jointly.
    """

    form: str
    k: float
    positions: int
    coefficients: Array
    spread: Array
    horizon: float
    schedule: Schedule | None
    until: float
    elsewhere: float = 0.0
    together: float = 0.0
    name: str = "temporal"

    @property
    def formula(self) -> str:
        """The law in words."""
        return f"L_i = a2 + g / (i + k); g, a2 on {', '.join(FORMS[self.form])}"

    @property
    def knows_rate(self) -> bool:
        """Whether the law takes the rate into account."""
        return self.schedule is not None and "rate" in FORMS[self.form]

    def parameters(self) -> dict[str, float]:
        """k, and the coefficients of g and a2."""
        names = ["1", *FORMS[self.form]]
        values = {"k": self.k}
        for label, row in zip(("g", "a2"), self.coefficients, strict=True):
            values |= {f"{label}: {name}": float(value) for name, value in zip(names, row, strict=True)}
        return values

    def asymptote(self) -> float | None:
        """None: the regression has no end."""
        return None

    def at_positions(self, steps: Array) -> Array:
        """Predicted losses [steps, positions], without the noise that is common to all steps."""
        g, a2 = self.coefficients @ regressors(self.form, steps, self.horizon, self.schedule).T
        return np.asarray(a2[:, None] + g[:, None] / (np.arange(1, self.positions + 1) + self.k))

    def predict(self, steps: Array) -> Array:
        """Predicted mean losses."""
        g, a2 = self.coefficients @ regressors(self.form, steps, self.horizon, self.schedule).T
        return np.asarray(np.maximum(a2 + g * mean_hyperbola(self.k, self.positions), FLOOR))

    def own_error(self, steps: Array) -> Array:
        """Relative sd that the law itself errs by at some steps."""
        return np.hypot(DRIFT * np.log(np.maximum(steps / self.until, 1.0)), self.elsewhere)

    def draws(self, steps: Array, noise: Array) -> Array:
        """Mean losses under coefficients drawn from the regression's posterior; noise [draws, parameters]."""
        rows = regressors(self.form, steps, self.horizon, self.schedule)
        size = rows.shape[1]
        g = self.coefficients[0] + noise[:, :size] @ self.spread[0].T
        own = np.sqrt(1 - self.together**2)
        joint = self.together * noise[:, :size] + own * noise[:, size : 2 * size]
        a2 = self.coefficients[1] + joint @ self.spread[1].T
        return np.asarray(np.maximum((a2 + g * mean_hyperbola(self.k, self.positions)) @ rows.T, FLOOR))


def mean_hyperbola(k: float, positions: int) -> float:
    """Mean of 1 / (i + k) over the positions: what g weighs in the mean loss."""
    return float((1 / (np.arange(1, positions + 1) + k)).mean())


@dataclass(frozen=True)
class TemporalLaw:
    """The law as a candidate beside the laws of the mean loss."""

    name: str = "temporal"

    def fit(self, run: Run, last: float | None = None, starts: int = 1) -> TemporalFit:
        """The regressors that did best at rolling origins, fitted on what may be looked at."""
        steps, losses = run.seen_at_positions(last)
        if len(steps) < FEWEST_STEPS:
            raise UserError(
                f"only {counted(len(steps), 'evaluation')} by position, {FEWEST_STEPS} are needed", where=run.log.name
            )
        shapes = hyperbolas(steps, losses)
        errors = {form: _rolling_error(form, shapes, run) for form in FORMS}
        usable = [form for form in FORMS if STEPS_A_REGRESSOR * len(FORMS[form]) <= len(steps)]
        return _regress(min(usable, key=lambda form: errors[form]), shapes, run)


def _rolling_error(form: str, shapes: Hyperbolas, run: Run) -> float:
    """Mean absolute error of the mean loss of the last tenth, predicted from a half to four fifths of the steps, and
    what the form misses of that tenth though it was fitted."""
    size = len(shapes.steps)
    tail = max(1, size // 10)
    rows = regressors(form, shapes.steps, run.horizon, run.schedule)
    parameters = np.stack([shapes.g, shapes.a2], axis=1)
    weight = mean_hyperbola(shapes.k, len(shapes.common))
    errors = []
    for share in (0.5, 0.65, 0.8):
        count = min(round(share * size), size - tail)
        solution = np.linalg.lstsq(rows[:count], parameters[:count], rcond=None)[0]
        missed = (rows[-tail:] @ solution - parameters[-tail:]).mean(axis=0)
        errors.append(abs(missed[0] * weight + missed[1]))
    # Where the course bends away from the form at the end of what is fitted, so will the forecast.
    solution = np.linalg.lstsq(rows, parameters, rcond=None)[0]
    bent = (rows[-tail:] @ solution - parameters[-tail:]).mean(axis=0)
    return float(np.hypot(np.mean(errors), abs(bent[0] * weight) + abs(bent[1])))


def _regress(form: str, shapes: Hyperbolas, run: Run) -> TemporalFit:
    rows = regressors(form, shapes.steps, run.horizon, run.schedule)
    parameters = np.stack([shapes.g, shapes.a2], axis=1)
    solution = np.linalg.lstsq(rows, parameters, rcond=None)[0]
    freedom = max(len(rows) - rows.shape[1], 1)
    sigma = np.sqrt(((parameters - rows @ solution) ** 2).sum(axis=0) / freedom)
    _, singular, vectors = np.linalg.svd(rows, full_matrices=False)
    root = vectors.T @ np.diag(1 / np.maximum(singular, 1e-6 * singular[0])) @ vectors
    spread = np.asarray(sigma[:, None, None] * root, dtype=np.float64)
    coefficients: Array = np.asarray(solution.T, dtype=np.float64)
    positions, until = len(shapes.common), float(shapes.steps[-1])
    missed = parameters - rows @ solution
    scale = float(np.sqrt((missed[:, 0] ** 2).sum() * (missed[:, 1] ** 2).sum()))
    together = float(np.clip((missed[:, 0] * missed[:, 1]).sum() / scale, -0.999, 0.999)) if scale > 0 else 0.0
    return TemporalFit(form, shapes.k, positions, coefficients, spread, run.horizon, run.schedule, until,
                       together=together)  # fmt: skip


def regression_r2(fitted: TemporalFit, shapes: Hyperbolas) -> dict[str, float]:
    """R2 of g and a2 on the regressors."""
    rows = regressors(fitted.form, shapes.steps, fitted.horizon, fitted.schedule)
    predicted = fitted.coefficients @ rows.T
    return {
        name: float(1 - ((values - curve) ** 2).sum() / ((values - values.mean()) ** 2).sum())
        for name, values, curve in zip(("g", "a2"), (shapes.g, shapes.a2), predicted, strict=True)
    }


def uniformity(shapes: Hyperbolas, losses: Array, parts: int = 4) -> list[float]:
    """The share of each quarter of the positions in the loss learned from the middle step to the last, over its width.

    1 everywhere means that positions are learned uniformly, so that all tokens may weigh the same in training.
    """
    middle = len(shapes.steps) // 2
    learned = losses[middle : middle + 3].mean(axis=0) - losses[-3:].mean(axis=0)
    return [float(part.mean() / learned.mean()) for part in np.array_split(learned, parts)]
