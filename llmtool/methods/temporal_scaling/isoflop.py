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
WIDEST = 2.0
"""Compute of the largest run of such a curve over that of the smallest: 1.0 to 1.44 in eight public tables."""
SAME_SIZE = 1.01
"""Rows whose parameters differ by no more than this factor are points of one size's curve."""
FILLED = 0.5
BUDGETS = 60
"""Budgets, uniform in log compute, at which the envelope is looked at."""


def groups(values: Array, factor: float) -> list[Array]:
    """Places of values that follow one another by no more than a factor, in rising order."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(np.log(values[order])) > np.log(factor)) + 1
    return np.split(order, cuts)


def budgets(compute: Array) -> list[Array]:
    """Places of the runs of each budget. A chain that reaches further than WIDEST, link by link, is none."""
    return [group for group in groups(compute, ISO) if compute[group].max() <= WIDEST * compute[group].min()]


def _grid(runs: Table) -> bool:
    """Whether the same numbers of tokens come with every size: half of all pairs and more."""
    pairs = distinct(runs.params, SAME_SIZE) * distinct(runs.tokens, SAME_SIZE)
    return pairs <= len(runs.loss) / FILLED


def distinct(values: Array, factor: float) -> int:
    """How many values there are, those within a factor of the smallest of them as one."""
    count, start = 0, 0.0
    for value in np.sort(values):
        if value > factor * start:
            count, start = count + 1, value
    return count


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

    None where fewer than two budgets have four sizes around a minimum, and where the runs are a grid of sizes and
    tokens: what lies about one compute there has less of it the larger the model is, or more, and the bottom moves.
    """
    if _grid(runs):
        return None
    rows = _bottoms(runs, runs.loss)
    if len(rows) < 2:
        return None
    # Runs of a budget differ in 6 N D all the same, by size (embeddings count, or do not): at the compute of its middle
    # each would have lost what the bottoms do.
    compute, best = np.log([row["compute"] for row in rows]), [row["loss"] for row in rows]
    slope, level = np.clip(np.diff(best) / np.diff(compute), None, 0.0), runs.loss.copy()
    for group in budgets(runs.compute):
        apart = np.log(runs.compute[group]) - np.log(runs.compute[group]).mean()
        level[group] -= apart * np.interp(np.log(runs.compute[group]).mean(), (compute[1:] + compute[:-1]) / 2, slope)
    rows = _bottoms(runs, level)
    return {"budgets": rows, "exponent": _exponent(rows)} if len(rows) >= 2 else None


def _bottoms(runs: Table, loss: Array) -> list[dict[str, float]]:
    rows = []
    for group in budgets(runs.compute):
        x, y = np.log(runs.params[group]), loss[group]
        if len(np.unique(x)) < 4:
            continue
        bend, slope, level = np.polyfit(x, y, 2)
        best = -slope / (2 * bend) if bend > 0 else np.inf
        if x.min() < best < x.max():
            compute = float(np.exp(np.log(runs.compute[group]).mean()))
            rows.append({"compute": compute, "params": float(np.exp(best)),
                         "loss": float(level + slope * best + bend * best**2)})  # fmt: skip
    return rows


def _exponent(rows: Sequence[dict[str, float]]) -> float:
    """a in N_opt ~ C^a."""
    compute, params = (np.log([row[key] for row in rows]) for key in ("compute", "params"))
    return float(np.polyfit(compute, params, 1)[0])
