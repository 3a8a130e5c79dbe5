"""A law over many runs, drawn: measured against predicted loss, and the compute-optimal sizes with their band."""

from pathlib import Path

import numpy as np

from llmtool.core.run.atomic import Files
from llmtool.core.run.figures import save_figure
from llmtool.methods.temporal_scaling import isoflop
from llmtool.methods.temporal_scaling.across_runs import Array, SizeLaw, optimal_sizes
from llmtool.methods.temporal_scaling.plot import LAW, SEEN, figure, plain
from llmtool.methods.temporal_scaling.size_doubts import few_sizes, outliers, together
from llmtool.methods.temporal_scaling.size_table import Table


def draw(law: SizeLaw, runs: Table, theta: Array, draws: Array, path: Path, files: Files | None = None) -> None:
    """Two panels: how well the law fits, and the parameters to choose for a compute budget. files: it is of them."""
    sheet = figure(figsize=(10, 4.4))
    fitted, sizes = sheet.subplots(1, 2)
    predicted = np.exp(law.log_loss(theta, runs))
    ends = [min(predicted.min(), runs.loss.min()), max(predicted.max(), runs.loss.max())]
    fitted.plot(ends, ends, color="#999999", linewidth=1)
    fitted.plot(predicted, runs.loss, "o", color=SEEN, markersize=4)
    fitted.set_xlabel("predicted loss, nats a token")
    fitted.set_ylabel("measured loss, nats a token")
    fitted.set_title(f"{law.name}: {law.formula}", loc="left", fontsize=10)
    far = outliers(law, runs, theta)[:6]
    names = list(runs.names)
    for rank, each in enumerate(far):
        at = names.index(each["run"]) if each["run"] in names else None
        if at is not None:
            fitted.annotate(each["run"], (predicted[at], runs.loss[at]), (5, 3 - 10 * (rank % 2)),
                            textcoords="offset points", fontsize=7)  # fmt: skip
    compute = runs.compute
    grid = np.geomspace(compute.min(), compute.max() * 10, 25)
    told = not (together(runs) or few_sizes(runs))
    sizes.plot(compute, runs.params, "o", color=SEEN, markersize=4, label="runs")
    if told:
        best = [optimal_sizes(law, theta, budget)[0] for budget in grid]
        sizes.plot(grid, best, color=LAW, linewidth=1.4, label="compute-optimal")
    if told and len(draws):
        others = np.array([[optimal_sizes(law, each, budget)[0] for budget in grid] for each in draws])
        low, high = np.quantile(others, [0.05, 0.95], axis=0)
        sizes.fill_between(grid, low, high, color=LAW, alpha=0.18, linewidth=0, label="90% of the bootstrap")
    for found, mark, label in (
        (isoflop.envelope(runs), "s", "lowest curve"),
        (isoflop.parabolas(runs), "D", "parabola"),
    ):
        if found is not None:
            bottoms = [(row["compute"], row["params"]) for row in found["budgets"]]
            sizes.plot(*zip(*bottoms, strict=True), mark, color="#333333", fillstyle="none", markersize=4, label=label)
    sizes.set_xscale("log")
    sizes.set_yscale("log")
    sizes.set_xlabel("compute 6 N D (FLOP)")
    sizes.set_ylabel("parameters N")
    sizes.legend(frameon=False, fontsize=9)
    for axes in (fitted, sizes):
        plain(axes)
    save_figure(sheet, path, files=files)
