"""Figures of evaluations: loss by position, needles by length and depth."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmtool.core.eval.niah import Cell
from llmtool.core.eval.ruler import Cell as Scored
from llmtool.core.run.figures import save_figure

INK = ("#1f4e79", "#c8501e", "#3a7d44", "#7a4f9a", "#a07800", "#555555")


def draw_positions(losses: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Loss by position, a line for each source; means over windows that grow with the position."""
    sheet, axes = _sheet(7.5, 4.2)
    for number, (name, values) in enumerate(losses.items()):
        x, y = binned(values)
        axes.plot(x, y, color=INK[number % len(INK)], marker="o", markersize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    axes.set_xlabel("position in the context, tokens")
    axes.set_ylabel("loss, nats a token")
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(frameon=False)
    save_figure(sheet, path)


def binned(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """(positions, means) over windows between powers of the square root of two; positions count from 1."""
    edges = sorted({round(2 ** (half / 2)) for half in range(80) if 2 ** (half / 2) <= len(values) + 1})
    edges = [*edges, len(values) + 1] if edges[-1] != len(values) + 1 else edges
    spans = list(pairwise(edges))
    return [(a + b - 1) / 2 for a, b in spans], [sum(values[a - 1 : b - 1]) / (b - a) for a, b in spans]


def draw_needles(cells: Sequence[Cell], path: Path, title: str) -> None:
    """Heat map of the share of needles found; each cell says its number."""
    lengths = sorted({cell.length for cell in cells})
    depths = sorted({cell.depth for cell in cells})
    at = {(cell.depth, cell.length): cell.recall for cell in cells}
    sheet, axes = _sheet(1.6 + 0.85 * len(lengths), 1.4 + 0.45 * len(depths))
    table = [[at[depth, length] for length in lengths] for depth in depths]
    axes.imshow(table, vmin=0, vmax=1, cmap="RdYlGn", alpha=0.7, aspect="auto")
    for row, depth in enumerate(depths):
        for column, length in enumerate(lengths):
            axes.text(column, row, f"{100 * at[depth, length]:.0f}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f}%" for depth in depths])
    axes.set_xlabel("context, tokens")
    axes.set_ylabel("depth of the needle")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(False)
    save_figure(sheet, path)


def draw_scores(cells: Sequence[Scored], path: Path, title: str) -> None:
    """Heat map of tasks and depths down, lengths across; each cell says its number."""
    lengths = sorted({cell.length for cell in cells})
    kinds = list(dict.fromkeys((cell.task, cell.depth) for cell in cells))
    at = {(cell.task, cell.depth, cell.length): cell.score for cell in cells}
    table = [[at[(*kind, length)] for length in lengths] for kind in kinds]
    sheet, axes = _sheet(2.6 + 0.85 * len(lengths), 1.4 + 0.34 * len(kinds))
    axes.imshow(table, vmin=0, vmax=1, cmap="RdYlGn", alpha=0.7, aspect="auto")
    for row, scores in enumerate(table):
        for column, score in enumerate(scores):
            axes.text(column, row, f"{100 * score:.0f}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    names = [task if depth is None else f"{task}, {100 * depth:.0f}% in" for task, depth in kinds]
    axes.set_yticks(range(len(kinds)), names)
    axes.set_xlabel("context, tokens")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(False)
    save_figure(sheet, path)


def _sheet(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    sheet: Any = Figure(figsize=(max(4.0, width), max(2.6, height)), layout="constrained")
    axes = sheet.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return sheet, axes
