"""A comparison as a figure: compression by corpus, token frequency by length, and the rank-frequency curve.

Drawn without pyplot, so that no state outlives the call and no display is asked for; the same comparison gives the
same bytes. Colours are those of Okabe & Ito, which people with colour-blindness tell apart.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.bpe.comparison import Comparison
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure, save_figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPX"

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "llmtool",
}
LONGEST_NAME = 28
LETTER = 0.07
"""Inches: mean width of a letter at this size."""
NARROWEST_LABELLED_BAR = 0.13
"""Inches: a narrower bar has no room for its figure."""


def plot(comparison: Comparison, path: Path) -> None:
    """Write the figure, in the format that the suffix of `path` names."""
    claim_figure(path)
    matplotlib: Any = require("matplotlib", extra="plots", why="to draw a comparison")
    figures: Any = require("matplotlib.figure", extra="plots", why="to draw a comparison")
    with matplotlib.rc_context(STYLE):
        bars = len(comparison.corpora) * (len(comparison.measured) + 1)
        width = min(max(10.0, 0.2 * bars), 16.0)
        figure = figures.Figure(figsize=(width, 7.2), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06, hspace=0.04)
        axes = figure.subplot_mosaic([["bars", "bars"], ["lengths", "ranks"]])
        _bytes_per_token(axes["bars"], comparison, 0.9 * width / bars)
        _mean_frequency(axes["lengths"], comparison)
        _rank_frequency(axes["ranks"], comparison)
        handles, labels = axes["lengths"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
        save_figure(figure, path, dpi=200)


def _bytes_per_token(axes: Any, comparison: Comparison, inches: float) -> None:
    """Bars from zero, with their figures; a group for each corpus."""
    count = len(comparison.measured)
    places = np.arange(len(comparison.corpora))
    for number, entry in enumerate(comparison.measured.values()):
        heights = [entry.corpora[corpus].bytes_per_token or math.nan for corpus in comparison.corpora]
        offset = (number - (count - 1) / 2) / (count + 1)
        drawn = axes.bar(places + offset, heights, 1 / (count + 1), color=_colour(number), edgecolor="white", lw=0.5)
        if inches >= NARROWEST_LABELLED_BAR:
            upright = inches > NARROWEST_LABELLED_BAR + 4 * LETTER
            axes.bar_label(drawn, fmt="%.3f", rotation=0 if upright else 90, padding=2, fontsize=7)
    names = [_label(corpus) for corpus in comparison.corpora]
    group = inches * (count + 1)
    crowded = max(map(len, names)) * LETTER > group
    slope = {"rotation": 25 if group > 5 * LETTER else 90, "ha": "right", "rotation_mode": "anchor"}
    turned = slope if crowded else {}
    axes.set_xticks(places, names, **turned)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.margins(y=0.14)  # for the figures on the bars
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_ylabel("bytes per token")
    axes.set_title("Compression by corpus (higher is better)")


def _mean_frequency(axes: Any, comparison: Comparison) -> None:
    longest = 1
    for number, (name, entry) in enumerate(comparison.measured.items()):
        classes = entry.total.mean_frequency
        lengths = [c.length for c in classes]
        means = [c.mean_frequency or math.nan for c in classes]  # no logarithm of zero: a gap
        axes.plot(lengths, means, **_line(number), marker=MARKERS[number % len(MARKERS)], ms=4, label=_label(name))
        longest = max(longest, *lengths)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [2**power for power in range(longest.bit_length() + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.grid()
    axes.set_xlabel("token length (bytes)")
    axes.set_ylabel("mean frequency")
    axes.set_title("Mean frequency by token length")


def _rank_frequency(axes: Any, comparison: Comparison) -> None:
    for number, (name, entry) in enumerate(comparison.measured.items()):
        frequencies = np.sort(entry.counts[entry.counts > 0])[::-1]
        label = f"{_label(name)}: {entry.total.zero_frequency:,}"
        axes.plot(np.arange(1, len(frequencies) + 1), frequencies, **_line(number), label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid()
    axes.legend(loc="lower left", title="zero-frequency tokens", alignment="left")
    axes.set_xlabel("rank")
    axes.set_ylabel("frequency")
    axes.set_title("Rank and frequency of tokens")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(number: int) -> dict[str, Any]:
    """Colour and dashes: lines that lie on each other stay visible, also in grey."""
    return {"color": _colour(number), "ls": DASHES[number % len(DASHES)], "lw": 1.6}


def _label(name: str) -> str:
    """A name as matplotlib shows it: short, no mathematics, and not hidden for a leading underscore."""
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 + 1 :]}"
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name
