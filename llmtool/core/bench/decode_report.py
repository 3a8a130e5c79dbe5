"""`llmtool bench decode` for people: table, Markdown, figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.bench.report import COLOURS, duration, size
from llmtool.core.run.extras import require
from llmtool.core.run.figures import save_figure

Row = dict[str, Any]
HEADER = (
    "checkpoint", "batch", "context", "first token", "bound", "a token", "bound", "tokens/s", "KV a token", "weights",
    "growth",
)  # fmt: skip
NOTE = (
    "bound: what the machine needs at least, at the copy and matmul rates measured in this run, with the weights and\n"
    "positions that the tokens use. KV a token: of one row, in all layers. growth: of memory over the weights' while "
    "decoding."
)


def table_rows(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Cells under HEADER."""
    for row in rows:
        first, token = row["first"], row["token"]
        yield [
            row["checkpoint"],
            f"{row['batch']:,}",
            f"{row['context']:,}",
            duration(first["seconds"]),
            f"{duration(first['bound'])} ({first['bound'] / first['seconds']:.0%})",
            duration(token["seconds"]),
            f"{duration(token['bound'])} ({token['bound'] / token['seconds']:.0%})",
            f"{row['batch'] / token['seconds']:,.4g}",
            f"{row['kv_bytes_per_token']:,.0f} B",
            size(row["weight_bytes"]),
            size(row["peak_bytes"]),
        ]


def markdown(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """A table for a document."""
    lines = [title, "", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(rows)]
    return "\n".join([*lines, "", *notes])


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Time to the first token and per token over the context, a column a batch; bounds dashed."""
    figures: Any = require("matplotlib.figure", extra="plots", why="to draw a benchmark")
    batches = sorted({row["batch"] for row in rows})
    figure = figures.Figure(figsize=(4.6 * len(batches), 6), layout="constrained")
    for column, batch in enumerate(batches):
        for line, (key, label) in enumerate((("first", "time to the first token"), ("token", "time per token"))):
            axes = figure.add_subplot(2, len(batches), line * len(batches) + column + 1)
            _lines(axes, [row for row in rows if row["batch"] == batch], key)
            axes.set_title(f"{label}, batch {batch}", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    save_figure(figure, path)


def _lines(axes: Any, rows: Sequence[Row], key: str) -> None:
    line: dict[str, Any] = {"marker": "_", "markersize": 12, "linewidth": 0.9}  # a line of one point is none
    for index, name in enumerate(dict.fromkeys(row["checkpoint"] for row in rows)):
        mine = sorted((row for row in rows if row["checkpoint"] == name), key=lambda row: row["context"])
        at, colour = [row["context"] for row in mine], COLOURS[index % len(COLOURS)]
        middle = [row[key]["seconds"] * 1e3 for row in mine]
        around = [
            [(row[key]["seconds"] - row[key]["low"]) * 1e3 for row in mine],
            [(row[key]["high"] - row[key]["seconds"]) * 1e3 for row in mine],
        ]
        axes.errorbar(at, middle, around, marker="o", markersize=4, capsize=2, color=colour, label=name)
        axes.plot(at, [row[key]["bound"] * 1e3 for row in mine], "--", color=colour, **line)
    axes.plot([], [], "--", color="#555555", label="bound", **line)
    axes.set_xscale("log", base=2)
    contexts = sorted({row["context"] for row in rows})
    axes.set_xticks(contexts, [f"{context:,}" for context in contexts], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("context, tokens", fontsize=8)
    axes.set_ylabel("ms", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)
