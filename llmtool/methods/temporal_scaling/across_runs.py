"""Laws over many runs of different size: Kaplan, Chinchilla, data-constrained; bootstrap, compute-optimal sizes.

As Hoffmann et al. fit theirs: Huber loss (1e-3) of the log loss, L-BFGS from the best points of a grid of starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.size_table import FLOPS, Table

Array = NDArray[np.float64]
HUBER = 1e-3
BEST_STARTS = 8


@dataclass(frozen=True)
class SizeLaw:
    """A law over sizes. log_loss(theta, table); grid: values of each parameter to start from."""

    name: str
    formula: str
    names: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    log_loss: Callable[[Array, Table], Array]
    logarithms: tuple[bool, ...]

    def named(self, theta: Array) -> dict[str, float]:
        """The parameters by name, in the paper's own units."""
        values = np.where(self.logarithms, np.exp(theta), theta)
        return {name: float(value) for name, value in zip(self.names, values, strict=True)}


def _chinchilla(theta: Array, runs: Table) -> Array:
    e, a, b, alpha, beta = theta
    terms = [np.full(len(runs.loss), e), a - alpha * np.log(runs.params), b - beta * np.log(runs.tokens)]
    return np.asarray(np.logaddexp.reduce(terms, axis=0))


def _kaplan(theta: Array, runs: Table) -> Array:
    n_c, d_c, alpha_n, alpha_d = theta
    size = alpha_n / alpha_d * (n_c - np.log(runs.params))
    return np.asarray(alpha_d * np.logaddexp(size, d_c - np.log(runs.tokens)))


def _data_constrained(theta: Array, runs: Table) -> Array:
    _, a, b, alpha, beta, r_n, r_d = theta
    # Parameters that are compute-optimal for the unique tokens: A alpha / N^alpha = B beta / D^beta.
    optimal = np.exp((np.log(alpha / beta) + a - b + beta * np.log(runs.unique)) / alpha)
    base = np.minimum(optimal, runs.params)
    params = base * (1 + np.exp(r_n) * -np.expm1(-(runs.params / base - 1) / np.exp(r_n)))
    tokens = runs.unique * (1 + np.exp(r_d) * -np.expm1(-(runs.tokens / runs.unique - 1) / np.exp(r_d)))
    return _chinchilla(theta[:5], Table(params, tokens, runs.unique, runs.loss))


_E, _A, _EXPONENT = (-0.5, 0.5), (2.0, 6.0, 10.0), (0.2, 0.35, 0.5)
CHINCHILLA = SizeLaw(
    "chinchilla", "E + A / N^alpha + B / D^beta", ("E", "A", "B", "alpha", "beta"),
    (_E, _A, _A, _EXPONENT, _EXPONENT), _chinchilla, (True, True, True, False, False),
)  # fmt: skip
KAPLAN = SizeLaw(
    "kaplan", "((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D", ("N_c", "D_c", "alpha_N", "alpha_D"),
    ((24.0, 32.0, 40.0), (24.0, 32.0, 40.0), (0.05, 0.1, 0.2), (0.05, 0.1, 0.2)), _kaplan,
    (True, True, False, False),
)  # fmt: skip
DATA_CONSTRAINED = SizeLaw(
    "data-constrained", "Chinchilla at effective N', D' with R*_N, R*_D",
    ("E", "A", "B", "alpha", "beta", "R_N", "R_D"), (_E, _A, _A, _EXPONENT, _EXPONENT, (1.7,), (1.5, 2.7)),
    _data_constrained, (True, True, True, False, False, True, True),
)  # fmt: skip
SIZE_LAWS = {law.name: law for law in (CHINCHILLA, KAPLAN, DATA_CONSTRAINED)}


def huber_of_log(theta: Array, law: SizeLaw, runs: Table) -> float:
    """The sum of Huber losses of the log loss; infinite where the exponents leave their range."""
    exponents = theta[[place for place, log in enumerate(law.logarithms) if not log]]
    if exponents.min() <= 1e-3 or exponents.max() > 3:
        return 1e6
    with np.errstate(over="ignore", invalid="ignore"):
        missed = np.abs(law.log_loss(theta, runs) - np.log(runs.loss))
    total = np.where(missed <= HUBER, missed**2 / 2, HUBER * (missed - HUBER / 2)).sum()
    return float(total) / HUBER**2 if np.isfinite(total) else 1e6


def fit_sizes(law: SizeLaw, runs: Table, start: Array | None = None) -> Array:
    """The parameters that fit best; from the best points of the grid, or from `start` and the best one of them."""
    from scipy.optimize import minimize

    if len(runs.loss) < len(law.names) + 1:
        raise UserError(f"{len(runs.loss)} runs are too few for the {len(law.names)} parameters of {law.name!r}")
    starts = [start, _starts(law, runs)[0]] if start is not None else _starts(law, runs)
    found = [minimize(huber_of_log, x0, args=(law, runs), method="L-BFGS-B") for x0 in starts]
    best = min(found, key=lambda result: float(result.fun))
    # The Huber loss is flat in a curved valley; a simplex walks it where differences of gradients stall.
    polished = minimize(huber_of_log, best.x, args=(law, runs), method="Nelder-Mead",
                        options={"maxiter": 200 * len(law.names), "xatol": 1e-6, "fatol": 1e-8})  # fmt: skip
    return np.asarray(min((best, polished), key=lambda result: float(result.fun)).x)


def _starts(law: SizeLaw, runs: Table) -> list[Array]:
    points = [np.array(point) for point in product(*law.grid)]
    return sorted(points, key=lambda point: huber_of_log(point, law, runs))[:BEST_STARTS]


def bootstrap(law: SizeLaw, runs: Table, theta: Array, count: int, seed: int) -> Array:
    """Parameters fitted to runs drawn with replacement [count, parameters]; each looks for its own valley, too."""
    generator = np.random.default_rng(seed)
    return np.array([fit_sizes(law, runs.drawn(generator), theta) for _ in range(count)])


def optimal_sizes(law: SizeLaw, theta: Array, compute: float) -> tuple[float, float, float]:
    """Parameters, tokens and loss at the least loss for 6 N D = compute, every token new."""
    params = np.geomspace(1e5, 1e14, 1801)
    tokens = compute / FLOPS / params
    runs = Table(params, tokens, tokens, np.ones(len(params)))
    loss = law.log_loss(theta, runs)
    best = int(np.argmin(loss))
    return float(params[best]), float(tokens[best]), float(np.exp(loss[best]))
