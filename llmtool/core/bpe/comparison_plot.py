"""A comparison as a figure: tokens saved by corpus, token frequency by length, and tokens that never occur.

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
    claim_figure(path, force=True)
    matplotlib: Any = require("matplotlib", extra="plots", why="to draw a comparison")
    figures: Any = require("matplotlib.figure", extra="plots", why="to draw a comparison")
    with matplotlib.rc_context(STYLE):
        bars = len(comparison.corpora) * max(2, len(comparison.measured))
        width = min(max(10.0, 0.2 * bars), 16.0)
        figure = figures.Figure(figsize=(width, 7.2), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06, hspace=0.04)
        axes = figure.subplot_mosaic([["bars", "bars"], ["lengths", "unused"]])
        if len(comparison.measured) > 1:
            _fewer_tokens(axes["bars"], comparison, 0.9 * width / bars)
        else:
            _bytes_per_token(axes["bars"], comparison, 0.9 * width / bars)
        _mean_frequency(axes["lengths"], comparison)
        _unused(axes["unused"], comparison)
        handles, labels = axes["lengths"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
        save_figure(figure, path, dpi=200)


def _fewer_tokens(axes: Any, comparison: Comparison, inches: float) -> None:
    """What each of the others saves of the first one's tokens: a per cent shows, where bars of bytes hide it."""
    (first, base), *others = comparison.measured.items()
    for number, (_, entry) in enumerate(others, 1):
        saved = [_saved(entry.corpora[corpus].tokens, base.corpora[corpus].tokens) for corpus in comparison.corpora]
        _bars(axes, saved, number - 1, len(others), number, "%+.2f%%", inches)
    axes.axhline(0, color=_colour(0), lw=1.6)
    _corpora(axes, comparison, inches * (len(others) + 1))
    axes.set_ylabel("fewer tokens, %")
    axes.set_title(f"Tokens saved against {_label(first)}, by corpus (higher is better)")


def _bytes_per_token(axes: Any, comparison: Comparison, inches: float) -> None:
    """Of one tokenizer alone: its compression."""
    (entry,) = comparison.measured.values()
    heights = [entry.corpora[corpus].bytes_per_token or math.nan for corpus in comparison.corpora]
    _bars(axes, heights, 0, 1, 0, "%.3f", inches)
    _corpora(axes, comparison, 2 * inches)
    axes.set_ylabel("bytes per token")
    axes.set_title("Compression by corpus (higher is better)")


def _bars(axes: Any, heights: list[float], place: int, count: int, number: int, form: str, inches: float) -> None:
    """One tokenizer's bars, with their figures where there is room; a group for each corpus."""
    offset = (place - (count - 1) / 2) / (count + 1)
    drawn = axes.bar(np.arange(len(heights)) + offset, heights, 1 / (count + 1), color=_colour(number),
                     edgecolor="white", lw=0.5)  # fmt: skip
    if inches >= NARROWEST_LABELLED_BAR:
        upright = inches > NARROWEST_LABELLED_BAR + 5 * LETTER
        labels = ["" if math.isnan(height) else form % height for height in heights]
        axes.bar_label(drawn, labels, rotation=0 if upright else 90, padding=2, fontsize=7)


def _corpora(axes: Any, comparison: Comparison, group: float) -> None:
    """Their names below the groups of bars, each `group` inches wide."""
    names = [_label(corpus) for corpus in comparison.corpora]
    crowded = max(map(len, names)) * LETTER > group
    slope = {"rotation": 25 if group > 5 * LETTER else 90, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(slope if crowded else {}))
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.margins(y=0.14)  # for the figures on the bars
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def _saved(tokens: int, base: int) -> float:
    """Per cent fewer tokens than the base."""
    return 100 * (1 - tokens / base) if base else math.nan


def _mean_frequency(axes: Any, comparison: Comparison) -> None:
    """The table's bins: single lengths are a handful of tokens each, and noise."""
    bins = comparison.frequencies()
    for number, name in enumerate(comparison.measured):
        means = [cells[number] or math.nan for _, cells in bins]  # no logarithm of zero: a gap
        axes.plot(range(len(bins)), means, **_line(number), marker=MARKERS[number % len(MARKERS)], ms=4,
                  label=_label(name))  # fmt: skip
    axes.set_yscale("log")
    axes.set_xticks(range(len(bins)), [label for label, _ in bins], fontsize=8)
    axes.grid()
    axes.set_xlabel("token length, bytes")
    axes.set_ylabel("mean occurrences of a token")
    axes.set_title("Mean frequency by token length")


def _unused(axes: Any, comparison: Comparison) -> None:
    """Tokens of the vocabulary that the text never needs."""
    names = [*comparison.measured]
    counts = [entry.total.zero_frequency for entry in comparison.measured.values()]
    drawn = axes.barh(range(len(names)), counts, 0.6, color=[_colour(number) for number in range(len(names))])
    axes.bar_label(drawn, [f"{count:,}" for count in counts], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("learned tokens that never occur")
    axes.set_title("Unused tokens (fewer is better)")


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
