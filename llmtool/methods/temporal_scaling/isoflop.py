"""The first two approaches of Hoffmann et al. (arXiv 2203.15556, 3.1 and 3.2) to the best size for a compute budget.

Neither needs a law of the loss: the first takes the lower envelope of the curves of each size, the second the bottom of
a parabola through runs of one budget. Both end in N_opt ~ C^exponent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.size_table import Table

Array = NDArray[np.float64]
ISO = 1.15
"""Runs whose compute differs by no more than this factor are of one IsoFLOP curve, of four sizes at the least."""
SAME_SIZE = 1.01
"""Rows whose parameters differ by no more than this factor are points of one size's curve."""
BUDGETS = 60
"""Budgets, uniform in log compute, at which the envelope is looked at."""


def groups(values: Array, factor: float) -> list[Array]:
    """Places of values that follow one another by no more than a factor, in rising order."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(np.log(values[order])) > np.log(factor)) + 1
    return np.split(order, cuts)


def envelope(runs: Table) -> dict[str, Any] | None:
    """Approach 1: at each budget the size whose curve, interpolated in log compute, lies lowest.

    A budget counts where at least three sizes have been measured around it and the lowest is neither the smallest nor
    the largest of these: otherwise the best size may lie outside. None where fewer than two sizes ever win.
    """
    curves = [place for place in groups(runs.params, SAME_SIZE) if len(place) > 1]
    if len(curves) < 3:
        return None
    lines = [np.array(sorted(zip(np.log(runs.compute[c]), runs.loss[c], strict=True))) for c in curves]
    sizes = np.array([np.exp(np.log(runs.params[c]).mean()) for c in curves])
    grid = np.linspace(min(line[0, 0] for line in lines), max(line[-1, 0] for line in lines), BUDGETS)
    loss = np.array([np.interp(grid, line[:, 0], line[:, 1], left=np.nan, right=np.nan) for line in lines])
    rows = []
    for place, budget in enumerate(grid):
        there = np.flatnonzero(np.isfinite(loss[:, place]))
        if len(there) < 3:
            continue
        best = there[np.argmin(loss[there, place])]
        if best not in (there[0], there[-1]):
            rows.append({"compute": float(np.exp(budget)), "params": float(sizes[best]),
                         "loss": float(loss[best, place])})  # fmt: skip
    if len({row["params"] for row in rows}) < 2:
        return None
    return {"budgets": rows, "exponent": _exponent(rows)}


def parabolas(runs: Table) -> dict[str, Any] | None:
    """Approach 2: a parabola of the loss over log N for each budget that runs share, and its bottom.

    None where fewer than two budgets have four sizes around a minimum.
    """
    rows = []
    for group in groups(runs.compute, ISO):
        x, y = np.log(runs.params[group]), runs.loss[group]
        if len(np.unique(x)) < 4:
            continue
        bend, slope, level = np.polyfit(x, y, 2)
        best = -slope / (2 * bend) if bend > 0 else np.inf
        if x.min() < best < x.max():
            compute = float(np.exp(np.log(runs.compute[group]).mean()))
            rows.append({"compute": compute, "params": float(np.exp(best)),
                         "loss": float(level + slope * best + bend * best**2)})  # fmt: skip
    return {"budgets": rows, "exponent": _exponent(rows)} if len(rows) >= 2 else None


def _exponent(rows: Sequence[dict[str, float]]) -> float:
    """a in N_opt ~ C^a."""
    compute, params = (np.log([row[key] for row in rows]) for key in ("compute", "params"))
    return float(np.polyfit(compute, params, 1)[0])
