"""Figures, PNG or SVG by name: the likeness of layers with the plan drawn in."""

from collections.abc import Sequence
from pathlib import Path

from llmtool.core.run.figures import save_figure
from llmtool.methods.uniattn.plan import Groups

FRAME = "#c8501e"


def draw_likeness(alike: Sequence[Sequence[float]], groups: Groups, measure: str, path: Path) -> None:
    """A heat map of [L, L], a frame around each group; numbers in the cells where they can be read."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    layers = len(alike)
    size = max(4.5, min(9.0, 1.5 + 0.5 * layers))
    figure = Figure(layout="constrained", figsize=(size + 0.8, size))
    axes = figure.add_subplot()
    lowest = min(min(row) for row in alike)
    image = axes.imshow(alike, vmin=lowest, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, shrink=0.8, label=f"likeness ({measure})")
    for group in groups:
        corner, width = group[0] - 0.5, group[-1] - group[0] + 1
        axes.add_patch(
            Rectangle((corner, corner), width, width, fill=False, edgecolor=FRAME, linewidth=2, clip_on=False)
        )
    if layers <= 16:
        for row in range(layers):
            for column in range(layers):
                value = alike[row][column]
                dark = value > lowest + 0.6 * (1 - lowest)
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7,
                          color="white" if dark else "black")  # fmt: skip
    ticks = range(0, layers, 1 if layers <= 20 else 4)
    axes.set(xlabel="layer", ylabel="layer", xticks=ticks, yticks=ticks)
    axes.set_title("Attention maps of the layers; framed: groups of the plan", fontsize=10)
    save_figure(figure, path)
