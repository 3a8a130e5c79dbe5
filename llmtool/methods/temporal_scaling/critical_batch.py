"""The critical batch size (McCandlish et al., arXiv 1812.06162): steps against examples to the same loss.

(S / S_min - 1) (E / E_min - 1) = 1 with E = B S, so B_crit = E_min / S_min; over losses, B_crit = B* / L^(1 / alpha).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import real
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.logs.numbers import number
from llmtool.methods.temporal_scaling.row_file import read_rows
from llmtool.methods.temporal_scaling.size_columns import listed

Array = NDArray[np.float64]
NAME = "critical-batch"
NAMES = {
    "loss": ("loss", "target loss"),
    "batch": ("batch", "batch size", "global batch size", "examples per step", "tokens per step"),
    "steps": ("steps", "step", "num steps", "n steps", "iterations"),
}
SCHEMA = "llmtool.scaling-critical-batch/1"
SMALLEST = 1e-30
"""Of a loss, a batch and a number of steps: logarithms of them are taken."""


def read_batches(path: Path) -> dict[float, tuple[Array, Array]]:
    """Batch sizes and the steps they took to each loss, from a table with columns loss, batch, steps."""
    groups: dict[float, list[tuple[float, float]]] = {}
    rows = read_rows(path)
    header = list(dict.fromkeys(name for _, row in rows for name in row))
    spelled = {" ".join(words(name)): name for name in reversed(header)}
    columns = {key: next((spelled[name] for name in names if name in spelled), None) for key, names in NAMES.items()}
    for key, name in columns.items():
        if name is None:
            raise UserError(f"has no column {key!r}; columns: {listed(header)}", where=str(path),
                            hint=f"one of {', '.join(NAMES[key])}; it needs loss, batch, steps")  # fmt: skip
    for line, row in rows:
        loss, batch, steps = (_positive(row[name], name, f"{path}:{line}") for name in columns.values() if name)
        groups.setdefault(loss, []).append((batch, steps))
    usable = {loss: pairs for loss, pairs in groups.items() if len({batch for batch, _ in pairs}) >= 3}
    if not usable:
        raise UserError("no loss that three batch sizes have reached", where=str(path))
    return {loss: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for loss, pairs in usable.items()}


def _positive(cell: Any, name: str, where: str) -> float:
    value = number(cell)  # 32K too
    return real(cell if value is None else value, name, low=SMALLEST, where=where)


def fewest(batch: Array, steps: Array) -> tuple[float, float]:
    """S_min and E_min: S = S_min + E_min / B, linear in 1 / B, fitted to the logarithm of the steps."""
    from scipy.optimize import least_squares

    def residuals(x: Array) -> Array:
        return np.asarray(np.logaddexp(x[0], x[1] - np.log(batch)) - np.log(steps))

    start = np.array([np.log(steps.min()), np.log((batch * steps).min())])
    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.05)
    return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


def to_json(groups: dict[float, tuple[Array, Array]]) -> dict[str, Any]:
    """S_min, E_min and B_crit at each loss, and the power law over losses where there are two or more."""
    rows = []
    for loss in sorted(groups, reverse=True):
        s_min, e_min = fewest(*groups[loss])
        rows.append({"loss": loss, "s_min": s_min, "e_min": e_min, "critical_batch": e_min / s_min})
    law = None
    if len(rows) > 1:
        x, y = np.log([row["loss"] for row in rows]), np.log([row["critical_batch"] for row in rows])
        slope, level = np.polyfit(x, y, 1)
        law = {"b_star": float(np.exp(level)), "alpha": float(-1 / slope)}
    return {"schema": SCHEMA, "losses": rows, "law": law}


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The critical batch sizes for people."""
    yield f"{'loss':>8}{'fewest steps':>14}{'fewest examples':>17}{'critical batch':>16}"
    for row in facts["losses"]:
        yield f"{row['loss']:>8.3f}{row['s_min']:>14,.0f}{row['e_min']:>17,.0f}{row['critical_batch']:>16,.0f}"
    if facts["law"]:
        yield f"B_crit = {facts['law']['b_star']:.3g} / L^(1 / {facts['law']['alpha']:.3g})"
