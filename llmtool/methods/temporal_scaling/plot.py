"""Figures, PNG or SVG by name: a forecast with its band, and the law over positions."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.figures import save_figure
from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.intervals import amount
from llmtool.methods.temporal_scaling.positions import FORMS, Hyperbolas, TemporalFit

Array = NDArray[np.float64]
SEEN, LATER, LAW = "#1f4e79", "#b8c4d0", "#c8501e"
RUNS = (
    "#1f4e79", "#c8501e", "#3a7d44", "#7a4f9a", "#a07800", "#555555", "#1b9aaa", "#b03060", "#8a9a2b", "#e08e45",
)  # fmt: skip
POINTS = 120
DOTS = 300
DOUBT_WIDTH = 76
"""Characters of a line inside the axes."""


def thousands(value: float, _: int) -> str:
    """A step on an axis."""
    return f"{value:,.0f}"


def figure(**settings: Any) -> Any:
    """An empty figure, drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **settings)


def plain(axes: Any) -> None:
    """Axes without a box, with a light grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def means(steps: Any, loss: Any) -> tuple[Any, Any]:
    """At most DOTS points: a row a step of noisy losses would hide the band behind thousands of dots."""
    if len(steps) <= DOTS:
        return steps, loss
    parts = [np.array_split(values, DOTS) for values in (steps, loss)]
    return tuple(np.array([part.mean() for part in each]) for each in parts)  # type: ignore[return-value]


def draw(forecast: Forecast, path: Path) -> None:
    """One forecast: what was fitted, the law beyond it with its band, what came later, the rate below."""
    run = forecast.run
    heights = [4, 1] if run.schedule else [1]
    sheet = figure(figsize=(8, 5.2 if run.schedule else 4.4))
    panels = sheet.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    axes = panels[0]
    shown = run.steps >= run.cut
    seen, later = shown & (run.steps <= run.until), shown & (run.steps > run.until)
    grid = np.linspace(run.cut, run.horizon, POINTS)
    ahead = grid[grid >= run.until] if run.until < run.horizon else grid[-1:]
    _, lower, upper = forecast.band(ahead)
    axes.axvspan(run.cut, run.until, color="#f2f5f8", zorder=0)
    if later.any():
        axes.plot(*means(run.steps[later], run.loss[later]), ".", color=LATER, markersize=3,
                  label="later (not looked at)")  # fmt: skip
    axes.plot(*means(run.steps[seen], run.loss[seen]), ".", color=SEEN, markersize=4, label="fitted")
    if len(ahead) > 1:
        axes.fill_between(ahead, lower, upper, color=LAW, alpha=0.18, linewidth=0, label="90% interval")
    law = forecast.fit.predict(grid) * run.level(grid)
    axes.plot(grid, law, color=LAW, linewidth=1.4, label=f"law: {forecast.fit.name}")
    final = forecast.final
    axes.errorbar([run.horizon], [final.value], [[final.value - final.low], [final.high - final.value]], fmt="o",
                  color=LAW, markersize=5, capsize=4, linewidth=1.4, clip_on=False, zorder=5,
                  label="the end, 90% interval" if len(ahead) == 1 else None)  # fmt: skip
    beside = f"{final.value:.3f}\n[{final.low:.3f}, {final.high:.3f}]"
    axes.annotate(beside, (run.horizon, final.value), (8, 0), textcoords="offset points", va="center", fontsize=9,
                  annotation_clip=False)  # fmt: skip
    visible = run.loss[shown]
    low, high = min(float(visible.min()), final.low), max(float(np.quantile(visible, 0.99)), final.high)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    axes.set_ylabel(f"{run.metric} loss, {run.log.units.get(run.metric, 'nats a token')}")
    known = not run.open_end and run.goes_on is None
    part = f"on {100 * run.share:.0f}% of the run" if known else f"to {run.axis} {amount(run.until)}"
    title = f"{Path(run.log.name).name}: fitted {part}"
    axes.set_title(title, loc="left", fontsize=11)
    if not forecast.confident:
        lines = [line for doubt in forecast.doubts for line in wrap(doubt, DOUBT_WIDTH)]
        axes.text(0.98, 0.97, "\n".join(["NOT CONFIDENT", *lines]), transform=axes.transAxes, ha="right",
                  va="top", fontsize=8, color=LAW, wrap=False)  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="lower left" if not forecast.confident else "upper center")
    plain(axes)
    if run.schedule:
        panels[1].plot(run.schedule.steps, run.schedule.eta, color="#555555", linewidth=1.2)
        panels[1].axvspan(run.cut, run.until, color="#f2f5f8", zorder=0)
        panels[1].set_ylim(0, 1.1)
        panels[1].set_ylabel("rate / peak")
        plain(panels[1])
    panels[-1].set_xlabel("step")
    panels[-1].set_xlim(0, run.horizon)
    panels[-1].xaxis.set_major_formatter(thousands)
    save_figure(sheet, path)


def draw_positions(sets: Sequence[tuple[str, TemporalFit, Hyperbolas, Array]], path: Path) -> None:
    """A row for each evaluation set (name, fit, hyperbolas, losses [steps, positions]): the hyperbolas over positions
    at a few steps, and their parameters over the steps, with the regressions."""
    sheet = figure(figsize=(11, 4.4 * len(sets)))
    rows = sheet.subplots(len(sets), 3, width_ratios=[1.6, 1, 1], squeeze=False)
    for axes, (name, fitted, shapes, losses) in zip(rows, sets, strict=True):
        _positions_row(axes, f"{name}: " if len(sets) > 1 else "", fitted, shapes, losses)
    save_figure(sheet, path)


def _positions_row(row: Any, name: str, fitted: TemporalFit, shapes: Hyperbolas, losses: Array) -> None:
    over, learned, slope = row
    places = np.arange(1, losses.shape[1] + 1)
    for colour, at in zip(RUNS, np.unique(np.linspace(0, len(shapes.steps) - 1, 4).astype(int)), strict=False):
        curve = shapes.a2[at] + shapes.g[at] / (places + shapes.k)
        over.plot(places, losses[at] - shapes.common, ".", color=colour, markersize=2.5, alpha=0.5)
        over.plot(places, curve, color=colour, linewidth=1.6, label=f"step {shapes.steps[at]:,.0f}")
    over.set_xscale("log")
    over.set_xlabel("position i, tokens")
    over.set_ylabel("loss, nats (noise common to all steps taken off)")
    over.set_title(f"{name}L_i = a2 + g / (i + k), k = {fitted.k:.2f}", loc="left", fontsize=11)
    over.legend(frameon=False, fontsize=9)
    grid = np.linspace(shapes.steps[0], fitted.horizon, POINTS)
    ends = fitted.at_positions(grid)
    first, last = ends[:, 0], ends[:, -1]
    g = (first - last) / (1 / (1 + fitted.k) - 1 / (len(places) + fitted.k))
    a2 = last - g / (len(places) + fitted.k)
    for axes, values, curve, what in ((learned, shapes.a2, a2, "a2"), (slope, shapes.g, g, "g")):
        axes.axvspan(shapes.steps[0], fitted.until, color="#f2f5f8", zorder=0)
        axes.plot(shapes.steps, values, ".", color=SEEN, markersize=5)
        axes.plot(grid, curve, color=LAW, linewidth=1.4)
        axes.set_title(f"{what} over {', '.join(FORMS[fitted.form])}", loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(thousands)
    for axes in (over, learned, slope):
        plain(axes)
