"""The rows of a benchmark for people: table, Markdown, figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.extras import require
from llmtool.core.run.figures import save_figure
from llmtool.core.run.wording import size as of_bytes

Row = dict[str, Any]
HEADER = ("case", "direction", "implementation", "error", "time", "±", "rate", "of ceiling", "ours", "memory")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")


def legend(ceilings: Row) -> str:
    """What the columns mean, and what the shares are of."""
    return (
        "error: relative, against float64. time: median; ±: half of what lies between the quartiles.\n"
        "of ceiling: floor / time, the floor being traffic / copy or operations / matmul, whichever is longer; what "
        "fits into caches can pass 100%.\n"
        "ours: how many times faster the fastest of ours is. memory: growth of the peak.\n"
        f"ceilings measured in this run: copy {ceilings['copy'] / 1e9:,.1f} GB/s, "
        f"{ceilings['dtype']} matmul {operations(ceilings['matmul'])}"
    )


def operations(rate: float) -> str:
    """Operations a second."""
    return f"{rate / 1e12:,.4g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:,.4g} GFLOP/s"


def not_run(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each reason: what was not run because of it."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], {})[f"{row['op']} {row['implementation']}"] = None
    for reason, names in reasons.items():
        yield f"not run, {reason}: {', '.join(names)}"


def table_rows(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Cells under HEADER, op by op; an implementation that did not run says why in place of its time."""
    before = None
    for row in rows:
        if "skipped" in row:
            continue
        where = (row["op"], str(row["case"]), row["direction"])
        first = where != before
        before = where
        shape = " ".join(f"{name}={size}" for name, size in row["case"].items())
        lead = [f"{row['op']}: {shape}" if first else "", row["direction"] if first else "", row["implementation"]]
        if "failed" in row:
            yield [*lead, "FAILED", *["-"] * 6]
            continue
        spread = (row["high"] - row["low"]) / 2 / row["seconds"]
        rate = operations(row["flops_per_s"]) if row["bound"] == "compute" else f"{row['bytes_per_s'] / 1e9:,.4g} GB/s"
        yield [
            *lead,
            f"{row['error']:.1e}",
            duration(row["seconds"]),
            f"{spread:.0%}",
            rate,
            f"{row['share']:.0%}",
            ratio(row, rows),
            size(row.get("peak_bytes")),
        ]


def ratio(row: Row, rows: Sequence[Row]) -> str:
    """How many times faster ours is than this rival: the fastest of ours that ran on the same case."""
    if row["own"]:
        return ""
    best = fastest_own(row, rows)
    return "-" if best is None else f"{row['seconds'] / best:.2f}x"


def fastest_own(row: Row, rows: Sequence[Row]) -> float | None:
    """Seconds of the fastest of ours on the case of `row`; None where none ran."""
    same = ("op", "case", "dtype", "direction")
    own = [r["seconds"] for r in rows if r["own"] and "seconds" in r and all(r[key] == row[key] for key in same)]
    return min(own, default=None)


def markdown(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """A table for a document."""
    lines = [title, "", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(rows)]
    return "\n".join([*lines, "", *notes])


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size(count: float | None) -> str:
    """Bytes; "-" where they are not known."""
    if count is None:
        return "-"
    return of_bytes(count)


def plot(rows: Sequence[Row], folder: Path, subtitle: str) -> list[Path]:
    """One figure an op, FOLDER/OP.png: the share of the ceiling of each implementation on each case."""
    figures: Any = require("matplotlib.figure", extra="plots", why="to draw a benchmark")
    written = []
    for op in dict.fromkeys(row["op"] for row in rows if "seconds" in row):
        mine = [row for row in rows if row["op"] == op and "seconds" in row]
        directions = list(dict.fromkeys(row["direction"] for row in mine))
        figure = figures.Figure(figsize=(5.5 * len(directions), 3.8), layout="constrained")
        for place, direction in enumerate(directions):
            _bars(figure.add_subplot(1, len(directions), place + 1), [r for r in mine if r["direction"] == direction])
        figure.suptitle(f"{op}: share of the measured ceiling\n{subtitle}", fontsize=9, x=0.01, ha="left")
        path = folder / f"{op}.png"
        save_figure(figure, path)
        written.append(path)
    return written


def _bars(axes: Any, rows: Sequence[Row]) -> None:
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        own = [row for row in rows if row["implementation"] == name]
        at = [cases.index(str(row["case"])) + (index - (len(names) - 1) / 2) * width for row in own]
        bars = axes.bar(at, [row["share"] * 100 for row in own], width * 0.92, label=name, color=COLOURS[index % 7])
        axes.bar_label(bars, [duration(row["seconds"]) for row in own], fontsize=6, rotation=90, padding=3)
    labels = [next(row["case"] for row in rows if str(row["case"]) == shape) for shape in cases]
    axes.set_xticks(range(len(cases)), [_tick(label) for label in labels], fontsize=7)
    axes.set_title(rows[0]["direction"], fontsize=9, loc="left")
    axes.set_ylabel("% of the ceiling", fontsize=8)
    axes.set_ylim(0, 1.3 * max(100, *(row["share"] * 100 for row in rows)))
    axes.axhline(100, color="#888888", linewidth=0.8, linestyle="--")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=len(names), loc="upper left")


def _tick(case: Row) -> str:
    words = [f"{name} {count:,}" for name, count in case.items()]
    return "\n".join(words)
