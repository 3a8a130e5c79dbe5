"""The figure of `llmtool eval experts`: active blocks by layer for each source, and loss and active share over tau."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtool.core.run.figures import save_figure

LOSS, SHARE = "#1f4e79", "#c8501e"
COLOURS = ("#1f4e79", "#c8501e", "#3a7d44", "#7a4f9a", "#a07800", "#4aa3a3", "#b04a78", "#555555")


def plain(axes: Any) -> None:
    """Axes without a box, with a light grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """Left: share of active blocks by layer, a line a source. Right: loss over tau, and the active share beside it."""
    from matplotlib.figure import Figure

    sheet = Figure(layout="constrained", figsize=(10.5, 4.2))
    left, right = sheet.subplots(1, 2)
    for place, (name, source) in enumerate(facts["sources"].items()):
        colour = COLOURS[place % len(COLOURS)]
        left.plot(facts["layers"], [100 * x for x in source["active_by_layer"]], "o-", markersize=3, linewidth=1.4,
                  color=colour, label=name)  # fmt: skip
    left.set_title(f"active blocks at tau {facts['tau']:g}", loc="left", fontsize=11)
    left.set_xlabel("layer")
    left.set_ylabel("% of blocks")
    left.set_ylim(0, 105)
    layers = facts["layers"]
    left.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    if len(layers) <= 16:
        left.set_xticks(layers)
    else:
        left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, fontsize=8)
    taus = [point["tau"] for point in facts["curve"]]
    right.plot(taus, [point["loss"] for point in facts["curve"]], "o-", color=LOSS, markersize=4, linewidth=1.6)
    if facts["dense_loss"] is not None:
        right.axhline(facts["dense_loss"], color=LOSS, linewidth=1, linestyle=":")
        right.annotate("dense", (taus[0], facts["dense_loss"]), color=LOSS, fontsize=8, va="bottom")
    right.set_title("loss and active blocks over tau", loc="left", fontsize=11)
    right.set_xlabel("tau")
    right.set_ylabel("loss, nats a token", color=LOSS)
    plain(left)
    plain(right)
    beside = right.twinx()
    beside.plot(taus, [100 * point["active"] for point in facts["curve"]], "s--", color=SHARE, markersize=3,
                linewidth=1.2)  # fmt: skip
    beside.set_ylabel("% of blocks active", color=SHARE)
    beside.set_ylim(0, 100)
    beside.spines[["top"]].set_visible(False)
    save_figure(sheet, path)
