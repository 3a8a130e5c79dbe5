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
MOST = 2000
"""Evaluations of a start: some 100 do where a table tells the law, 15,000 were spent where it does not."""
LOOSE = 2.0
"""Fits of the bootstrap start no further off than this: in exponents, and logarithms of the terms at a middle run."""
LARGEST_LOG = 300.0
"""Of a best size: exponents of almost nothing put it beyond every number."""


@dataclass(frozen=True)
class SizeLaw:
    """A law over sizes. log_loss(theta, table); grid: values of each parameter to start from, in the units of a middle
    run: N, D and loss are 1 there, so that the same table in billions is fitted alike.

    moved(theta, n, d, l): theta where N, D and loss count in units exp(n), exp(d) and exp(l) times as small. powers:
    log A, log B, alpha, beta of the two powers A / N^alpha and B / D^beta whose sum is least at the best size.
    """

    name: str
    formula: str
    names: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    log_loss: Callable[[Array, Table], Array]
    logarithms: tuple[bool, ...]
    moved: Callable[[Array, float, float, float], Array]
    powers: Callable[[Array], tuple[float, float, float, float]]

    def named(self, theta: Array) -> dict[str, float]:
        """The parameters by name, in the paper's own units."""
        values = np.where(self.logarithms, np.exp(theta), theta)
        return {name: float(value) for name, value in zip(self.names, values, strict=True)}

    def valid(self, theta: Array) -> bool:
        """Whether the exponents are in their range."""
        exponents = theta[[place for place, log in enumerate(self.logarithms) if not log]]
        return bool(exponents.min() > 1e-3 and exponents.max() <= 3)


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


def _two_powers(theta: Array) -> tuple[float, float, float, float]:
    return float(theta[1]), float(theta[2]), float(theta[3]), float(theta[4])


def _kaplan_powers(theta: Array) -> tuple[float, float, float, float]:
    n_c, d_c, alpha_n, alpha_d = theta.tolist()
    return alpha_n / alpha_d * n_c, d_c, alpha_n / alpha_d, 1.0


def _move_two_powers(theta: Array, n: float, d: float, loss: float) -> Array:
    out = theta.copy()
    out[:3] += loss + np.array([0.0, theta[3] * n, theta[4] * d])
    return out


def _move_kaplan(theta: Array, n: float, d: float, loss: float) -> Array:
    return np.asarray(theta + np.array([n + loss / theta[2], d + loss / theta[3], 0.0, 0.0]))


_E, _A, _EXPONENT = (-1.5, -0.5, -0.15), (-3.0, -1.5, -0.7), (0.2, 0.35, 0.6)
CHINCHILLA = SizeLaw(
    "chinchilla", "E + A / N^alpha + B / D^beta", ("E", "A", "B", "alpha", "beta"),
    (_E, _A, _A, _EXPONENT, _EXPONENT), _chinchilla, (True, True, True, False, False), _move_two_powers, _two_powers,
)  # fmt: skip
KAPLAN = SizeLaw(
    "kaplan", "((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D", ("N_c", "D_c", "alpha_N", "alpha_D"),
    ((-12.0, -4.0, 0.0), (-12.0, -4.0, 0.0), (0.05, 0.1, 0.2), (0.05, 0.1, 0.2)), _kaplan,
    (True, True, False, False), _move_kaplan, _kaplan_powers,
)  # fmt: skip
DATA_CONSTRAINED = SizeLaw(
    "data-constrained", "Chinchilla at effective N', D' with R*_N, R*_D",
    ("E", "A", "B", "alpha", "beta", "R_N", "R_D"), (_E, _A, _A, _EXPONENT, _EXPONENT, (1.7,), (1.5, 2.7)),
    _data_constrained, (True, True, True, False, False, True, True), _move_two_powers, _two_powers,
)  # fmt: skip
SIZE_LAWS = {law.name: law for law in (CHINCHILLA, KAPLAN, DATA_CONSTRAINED)}


def huber_of_log(theta: Array, law: SizeLaw, runs: Table) -> float:
    """The sum of Huber losses of the log loss; infinite where the exponents leave their range."""
    if not law.valid(theta):
        return 1e6
    with np.errstate(over="ignore", invalid="ignore"):
        missed = np.abs(law.log_loss(theta, runs) - np.log(runs.loss))
    total = np.where(missed <= HUBER, missed**2 / 2, HUBER * (missed - HUBER / 2)).sum()
    return float(total) / HUBER**2 if np.isfinite(total) else 1e6


def fit_sizes(law: SizeLaw, runs: Table, start: Array | None = None) -> Array:
    """The parameters that fit best; from the best points of the grid, or from `start` and the best one of them.

    N, D and loss are divided by those of a middle run first: along raw ones A and alpha go together so closely that no
    start reaches the bottom of the valley, and none of the grid is near where sizes count in billions.
    """
    from scipy.optimize import minimize

    if len(runs.loss) < len(law.names) + 1:
        raise UserError(f"{len(runs.loss)} runs are too few for the {len(law.names)} parameters of {law.name!r}")
    n, d, loss = (float(np.log(values).mean()) for values in (runs.params, runs.tokens, runs.loss))
    middle = Table(*(values / np.exp(by) for values, by in
                     ((runs.params, n), (runs.tokens, d), (runs.unique, d), (runs.loss, loss))))  # fmt: skip
    starts = _starts(law, middle)
    if start is not None:
        starts = [law.moved(start, -n, -d, -loss), starts[0]]
    found = [minimize(huber_of_log, x0, args=(law, middle), method="L-BFGS-B", options={"maxfun": MOST})
             for x0 in starts]  # fmt: skip
    best = min(found, key=lambda result: float(result.fun))
    # The Huber loss is flat in a curved valley; a simplex walks it where differences of gradients stall.
    polished = minimize(huber_of_log, best.x, args=(law, middle), method="Nelder-Mead",
                        options={"maxiter": 200 * len(law.names), "xatol": 1e-6, "fatol": 1e-8})  # fmt: skip
    return law.moved(np.asarray(min((best, polished), key=lambda result: float(result.fun)).x), n, d, loss)


def _starts(law: SizeLaw, runs: Table) -> list[Array]:
    points = [np.array(point) for point in product(*law.grid)]
    return sorted(points, key=lambda point: huber_of_log(point, law, runs))[:BEST_STARTS]


def bootstrap(law: SizeLaw, runs: Table, theta: Array, count: int, seed: int) -> Array:
    """Parameters fitted to runs drawn with replacement [count, parameters]; each looks for its own valley, too.

    Each starts from another point of what the table leaves open: from one and the same, none would move along a
    direction in which the fit is flat, and what is not told at all would look certain.
    """
    generator = np.random.default_rng(seed)
    draws, open_to = [], loose(law, runs, theta)
    for _ in range(count):
        drawn, moved = runs.drawn(generator), theta + open_to @ generator.standard_normal(len(theta))
        draws.append(fit_sizes(law, drawn, moved if law.valid(moved) else theta))
    return np.array(draws).reshape(count, len(theta))


def loose(law: SizeLaw, runs: Table, theta: Array, longest: float = LOOSE) -> Array:
    """A root of the covariance of the parameters by the Gauss-Newton Hessian of the fit [parameters, parameters]: each
    column is a direction, as long as its sd, and no longer than `longest` where the table tells nothing."""
    n, d, loss = (float(np.log(values).mean()) for values in (runs.params, runs.tokens, runs.loss))
    middle = law.moved(theta, -n, -d, -loss)
    steps = 1e-5 * np.eye(len(theta))
    # Differences of the law itself around the middle, moved back: A and alpha apart as far as the table has them.
    slopes = np.array([
        law.log_loss(law.moved(middle + step, n, d, loss), runs)
        - law.log_loss(law.moved(middle - step, n, d, loss), runs)
        for step in steps
    ]).T / 2e-5  # fmt: skip
    missed = np.log(runs.loss) - law.log_loss(theta, runs)
    sd = max(float(np.sqrt(np.mean(missed**2))), HUBER)
    _, sizes, directions = np.linalg.svd(slopes, full_matrices=False)
    root = directions.T * np.minimum(sd / np.maximum(sizes, 1e-12), longest)
    moves = np.array([law.moved(middle + step, n, d, loss) - law.moved(middle - step, n, d, loss) for step in steps])
    return np.asarray(moves.T / 2e-5 @ root)


def optimal_sizes(law: SizeLaw, theta: Array, compute: float) -> tuple[float, float, float]:
    """Parameters, tokens and loss at the least loss for 6 N D = compute, every token new."""
    a, b, alpha, beta = law.powers(theta)
    # alpha A / N^alpha = beta B / D^beta; more parameters than are best for the tokens make nothing better.
    best = (np.log(alpha / beta) + a - b + beta * np.log(compute / FLOPS)) / (alpha + beta)
    best = float(np.clip(best, -LARGEST_LOG, LARGEST_LOG))
    params, tokens = float(np.exp(best)), float(np.exp(np.log(compute / FLOPS) - best))
    return params, tokens, float(np.exp(law.log_loss(theta, Table.one(params, tokens))[0]))
