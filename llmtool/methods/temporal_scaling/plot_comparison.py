"""Runs side by side: their losses with bands, and what sets each apart from the lowest."""

from pathlib import Path

import numpy as np

from llmtool.core.run.figures import save_figure
from llmtool.methods.temporal_scaling.comparison import Comparison
from llmtool.methods.temporal_scaling.paired import common
from llmtool.methods.temporal_scaling.plot import POINTS, RUNS, figure, means, plain, thousands


def draw(comparison: Comparison, path: Path) -> None:
    """Two panels: losses over steps, and the difference to the lowest run, which curves that lie close hide."""
    sheet = figure(figsize=(11, 4.8))
    losses, apart = sheet.subplots(1, 2, width_ratios=[1.3, 1])
    low, high = np.inf, -np.inf
    lowest = comparison.forecasts[comparison.lowest]
    for place, forecast in enumerate(comparison.forecasts):
        run, colour = forecast.run, RUNS[place % len(RUNS)]
        shown = (run.steps >= run.cut) & (run.steps <= run.until)
        ahead = np.linspace(run.until, run.horizon, POINTS // 2)
        value, lower, upper = forecast.band(ahead)
        losses.plot(*means(run.steps[shown], run.loss[shown]), ".", color=colour, markersize=3, alpha=0.5)
        losses.fill_between(ahead, lower, upper, color=colour, alpha=0.15, linewidth=0)
        label = f"{Path(run.log.name).stem}: {forecast.final.value:.3f}"
        losses.plot(ahead, value, color=colour, linewidth=1.4, label=label)
        low = min(low, forecast.final.low)
        high = max(high, float(np.quantile(run.loss[shown], 0.98)), forecast.final.high)
        end = comparison.apart(place)
        if place == comparison.lowest:
            apart.axhline(0, color=colour, linewidth=1.4)
            continue
        if (found := common(forecast, lowest)) is not None:
            steps, ratio = found
            at = np.interp(steps, lowest.run.steps, lowest.run.loss)
            apart.plot(*means(steps, at * np.expm1(ratio)), ".", color=colour, markersize=3, alpha=0.6)
        # Side by side at the end, so that intervals do not cover one another.
        beside = run.horizon * (1 + 0.012 * place)
        apart.errorbar([beside], [end.value], [[end.value - end.low], [end.high - end.value]], fmt="o", color=colour,
                       markersize=4, capsize=3, linewidth=1.2, clip_on=False)  # fmt: skip
    losses.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    losses.set_ylabel(f"{lowest.run.metric} loss")
    losses.set_title("points: fitted; lines: forecast with 90% interval", loc="left", fontsize=10)
    losses.legend(frameon=False, fontsize=8)
    apart.set_ylabel(f"{lowest.run.metric} loss above {Path(lowest.run.log.name).stem}")
    apart.set_title("right: at the end, with 90% interval", loc="left", fontsize=10)
    for axes in (losses, apart):
        axes.set_xlim(0, None)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(nbins=6)  # more run into one another in the narrow panel
        axes.xaxis.set_major_formatter(thousands)
        plain(axes)
    save_figure(sheet, path)
