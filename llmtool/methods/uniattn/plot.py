"""Figures, PNG or SVG by name: the layers side by side with the plan drawn in, and each follower's heads below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.figures import save_figure
from llmtool.methods.uniattn.plan import Groups

FRAME = "#c8501e"


ACROSS = 6
"""Followers side by side."""
Table = Sequence[Sequence[float]]


def draw(
    table: Table, groups: Groups, measure: str, heads: Mapping[int, tuple[int, Table]], path: Path, name: str
) -> None:
    """Layers [L, L] of the checkpoint `name` above; below for each follower its leader and their heads' scores [H, H].

    measure: "cosine" or "js", where 1 is best, or "error", where scores are minus shares of the stream's energy.
    """
    from matplotlib.figure import Figure

    size, rows = max(4.5, min(9.0, 1.5 + 0.5 * len(table))), -(-len(heads) // ACROSS)
    figure = Figure(layout="constrained", figsize=(size + 0.8, size + 1.7 * rows))
    if not rows:
        draw_layers(figure, table, groups, measure, name)
    else:
        parts: Any = figure.subfigures(2, 1, height_ratios=(size, 1.7 * rows))
        above, below = parts
        draw_layers(above, table, groups, measure, name)
        draw_heads(below, heads, measure)
    save_figure(figure, path)


def draw_heads(figure: Any, heads: Mapping[int, tuple[int, Table]], measure: str) -> None:
    """A panel a follower: its heads down, the leader's across, a ring around the best for each."""
    rows = -(-len(heads) // ACROSS)
    panels = figure.subplots(rows, ACROSS, squeeze=False).flatten()
    lowest = min(min(map(min, scores)) for _, scores in heads.values())
    for panel, (layer, (leader, scores)) in zip(panels, heads.items(), strict=False):
        panel.imshow(scores, vmin=lowest, vmax=0 if measure == "error" else 1, cmap="Blues")
        best = [max(range(len(row)), key=row.__getitem__) for row in scores]
        panel.scatter(best, range(len(best)), s=14, facecolors="none", edgecolors=FRAME, linewidths=1)
        panel.set_title(f"layer {layer} reads {leader}", fontsize=7)
        panel.set(xticks=(), yticks=())
    for panel in panels[len(heads) :]:
        panel.set_visible(False)
    figure.suptitle(
        "Heads of the followers (down) and of their leaders (across); ringed: the best for each", fontsize=9
    )


def _digits(alike: Table, best: float) -> int:
    """Decimals that tell what is almost the best from the diagonal: 0.995 is not 1.00."""
    near = [value for row in alike for value in row if value < best]
    return next((digits for digits in (2, 3) if all(round(value, digits) < best for value in near)), 4)


def draw_layers(figure: Any, alike: Table, groups: Groups, measure: str, name: str) -> None:
    """A heat map of [L, L], a frame around each group; numbers in the cells where they can be read."""
    from matplotlib.patches import Rectangle

    layers = len(alike)
    axes = figure.add_subplot()
    lowest, best = min(min(row) for row in alike), 0 if measure == "error" else 1
    image = axes.imshow(alike, vmin=lowest, vmax=best, cmap="Blues")
    label = "minus error, of the stream's energy" if measure == "error" else f"likeness ({measure})"
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    for group in groups:
        corner, width = group[0] - 0.5, group[-1] - group[0] + 1
        axes.add_patch(
            Rectangle((corner, corner), width, width, fill=False, edgecolor=FRAME, linewidth=2, clip_on=False)
        )
    if layers <= 16:
        digits = _digits(alike, best)
        for row in range(layers):
            for column in range(layers):
                value = alike[row][column]
                dark = value > lowest + 0.6 * (best - lowest)
                axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=9 - digits,
                          color="white" if dark else "black")  # fmt: skip
    ticks = range(0, layers, 1 if layers <= 20 else 4)
    axes.set(xlabel="layer", ylabel="layer", xticks=ticks, yticks=ticks)
    axes.set_title(f"{name}: leader and follower, every pair of layers;\nframed: groups of the plan", fontsize=10)
