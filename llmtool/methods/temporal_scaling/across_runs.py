"""Laws over many runs of different size: Kaplan, Chinchilla, data-constrained; bootstrap, compute-optimal sizes.

As Hoffmann et al. fit theirs: Huber loss (1e-3) of the log loss, L-BFGS from the best points of a grid of starts.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError, explain_os_error

Array = NDArray[np.float64]
SCHEMA = "llmtool.scaling-law/1"
HUBER = 1e-3
COLUMNS = {
    "params": ("params", "parameters", "n", "model_size", "n_params"),
    "tokens": ("tokens", "d", "training_tokens", "train_tokens", "n_tokens"),
    "unique": ("unique", "unique_tokens", "u"),
    "loss": ("loss", "final_loss", "val_loss", "eval_loss", "test_loss"),
}
BEST_STARTS = 8
FLOPS = 6.0
"""Training takes 6 N D operations."""


@dataclass(frozen=True)
class Table:
    """One row a run: parameters, tokens, unique tokens, final loss."""

    params: Array
    tokens: Array
    unique: Array
    loss: Array

    def rows(self, places: Any) -> "Table":
        """Some of the rows."""
        return Table(self.params[places], self.tokens[places], self.unique[places], self.loss[places])


def read_table(path: Path, *, need_unique: bool = False) -> Table:
    """Runs from a CSV with columns params, tokens, loss and, for repeated data, unique_tokens."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        why = explain_os_error(error) if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"cannot read: {why}", where=str(path)) from None
    header = {(name or "").strip().lower(): name for name in (rows[0] if rows else {})}
    found = {key: next((header[name] for name in names if name in header), None) for key, names in COLUMNS.items()}
    for key in ("params", "tokens", "loss", *(("unique",) if need_unique else ())):
        if found[key] is None:
            raise UserError(f"has no column {key!r}", where=str(path), hint=f"one of {', '.join(COLUMNS[key])}")
    columns = {key: _numbers(rows, name, path) for key, name in found.items() if name is not None}
    unique = columns.get("unique", columns["tokens"])
    return Table(columns["params"], columns["tokens"], np.minimum(unique, columns["tokens"]), columns["loss"])


def _numbers(rows: Sequence[dict[str, str]], name: str, path: Path) -> Array:
    values = []
    for number, row in enumerate(rows, start=2):
        try:
            value = float(row[name])
        except (TypeError, ValueError):
            raise UserError(f"{name!r} is no number: {row[name]!r}", where=f"{path}:{number}") from None
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"{name!r} is not a positive number: {value}", where=f"{path}:{number}")
        values.append(value)
    return np.array(values)


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
    """The parameters that fit best; from `start`, or from the best points of the grid."""
    from scipy.optimize import minimize

    if len(runs.loss) < len(law.names) + 1:
        raise UserError(f"{len(runs.loss)} runs are too few for the {len(law.names)} parameters of {law.name!r}")
    starts = [start] if start is not None else _starts(law, runs)
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
    """Parameters fitted to runs drawn with replacement [count, parameters]."""
    generator = np.random.default_rng(seed)
    size = len(runs.loss)
    return np.array([fit_sizes(law, runs.rows(generator.integers(0, size, size)), theta) for _ in range(count)])


def optimal_sizes(law: SizeLaw, theta: Array, compute: float) -> tuple[float, float, float]:
    """Parameters, tokens and loss at the least loss for 6 N D = compute, every token new."""
    params = np.geomspace(1e5, 1e14, 1801)
    tokens = compute / FLOPS / params
    runs = Table(params, tokens, tokens, np.ones(len(params)))
    loss = law.log_loss(theta, runs)
    best = int(np.argmin(loss))
    return float(params[best]), float(tokens[best]), float(np.exp(loss[best]))


def to_json(law: SizeLaw, runs: Table, theta: Array, draws: Array, compute: Sequence[float]) -> dict[str, Any]:
    """The law as an object; intervals are 90% of the bootstrap."""
    missed = np.exp(law.log_loss(theta, runs)) / runs.loss - 1
    parameters = {}
    for place, (name, value) in enumerate(law.named(theta).items()):
        parameters[name] = {"value": value}
        if len(draws):
            column = np.exp(draws[:, place]) if law.logarithms[place] else draws[:, place]
            parameters[name] |= {"low": float(np.quantile(column, 0.05)), "high": float(np.quantile(column, 0.95))}
    sizes = []
    for budget in compute:
        params, tokens, loss = optimal_sizes(law, theta, budget)
        row = {"compute": budget, "params": params, "tokens": tokens, "loss": loss}
        if len(draws):
            others = [optimal_sizes(law, each, budget)[0] for each in draws]
            row |= {"params_low": float(np.quantile(others, 0.05)), "params_high": float(np.quantile(others, 0.95))}
        sizes.append(row)
    return {
        "schema": SCHEMA, "law": law.name, "formula": law.formula, "runs": len(runs.loss), "parameters": parameters,
        "mape": 100 * float(np.abs(missed).mean()), "largest_error": 100 * float(np.abs(missed).max()),
        "compute_optimal": sizes,
    }  # fmt: skip


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The law for people."""
    yield f"{facts['law']}: {facts['formula']}, {facts['runs']} runs, MAPE {facts['mape']:.3f}%"
    for name, value in facts["parameters"].items():
        spread = f"  [{value['low']:.4g}, {value['high']:.4g}]" if "low" in value else ""
        yield f"  {name:<8}{value['value']:>12.5g}{spread}"
    if facts["compute_optimal"]:
        yield f"  {'compute':>10}{'parameters':>14}{'tokens':>12}{'loss':>9}   90% of the parameters"
    for row in facts["compute_optimal"]:
        spread = f"   [{row['params_low']:.3g}, {row['params_high']:.3g}]" if "params_low" in row else ""
        yield f"  {row['compute']:>10.3g}{row['params']:>14.4g}{row['tokens']:>12.4g}{row['loss']:>9.4f}{spread}"
