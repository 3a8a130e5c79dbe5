"""The report as a sheet of panels, PNG, SVG or PDF by name."""

from pathlib import Path
from typing import Any

from llmtool.core.run.figures import save_figure
from llmtool.core.run.numbers import whole
from llmtool.core.run.wording import counted

BLUE, ORANGE, GREY = "#1f4e79", "#c8501e", "#b8c4d0"


def draw(facts: dict[str, Any], path: Path) -> None:
    """Four panels: dependency gap, similarity by rank, reuse, mix."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(11, 7), layout="constrained")
    gap, hard, reuse, mix = sheet.subplots(2, 2).flat
    lengths = [f"{counted(number, 'sample')} of {int(target):,} tokens" for target, number in facts["targets"].items()]
    title = f"{facts['method']}: {', '.join(lengths)}"
    sheet.suptitle(title, x=0.01, ha="left", fontsize=12)
    _gap(gap, facts)
    _hardness(hard, facts)
    _reuse(reuse, facts)
    _mix(mix, facts)
    for axes in (gap, hard, reuse, mix):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    save_figure(sheet, path)


FEW = 8
"""Ranks that are all named on the axis; half as many sources fill a figure."""


def _nothing(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#777777")
    axes.set_xticks([])
    axes.set_yticks([])


def _gap(axes: Any, facts: dict[str, Any]) -> None:
    bins = facts["gap_histogram"]
    if not bins:
        return _nothing(axes, "dependency gap")
    widths = [b - a for a, b in zip(bins["edges"], bins["edges"][1:], strict=False)]
    axes.bar(bins["edges"][:-1], bins["counts"], widths, align="edge", color=BLUE, edgecolor="white", linewidth=0.3)
    mean = facts["dependency_gap"]["mean"]
    axes.axvline(mean, color=ORANGE, linewidth=1.4)
    axes.annotate(f"mean {mean:,.0f}", (mean, 0.95), (5, 0), xycoords=("data", "axes fraction"),
                  textcoords="offset points", color=ORANGE, fontsize=9)  # fmt: skip
    axes.set_title("dependency gap: tokens between a meta-chunk and the next", loc="left", fontsize=10)
    axes.set_xlabel("tokens")
    axes.set_ylabel("pairs")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return None


def _hardness(axes: Any, facts: dict[str, Any]) -> None:
    ranks = facts["similarity_by_rank"]
    if not ranks:
        return _nothing(axes, "similarity of negatives by rank")
    # the highest ranks are reached in few samples, of few and therefore far-apart meta-chunks: not the same mean
    counts = facts["negatives_by_rank"]
    shown = {rank: value for rank, value in ranks.items() if 4 * counts[rank] >= max(counts.values())}
    axes.plot(list(shown), list(shown.values()), color=BLUE, linewidth=1.6)
    if max(shown) > FEW:
        axes.set_xscale("log", base=2)
    else:
        axes.set_xticks(list(shown))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    margin = facts["hardness_margin"]
    note = f", margin {margin['mean']:+.3f}" if margin else ""
    axes.set_title(f"hardness: similarity of negatives{note}", loc="left", fontsize=10)
    axes.set_xlabel("rank of the negative")
    axes.set_ylabel("similarity, cosine")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    return None


def _reuse(axes: Any, facts: dict[str, Any]) -> None:
    if not facts["reuse"]:
        return _nothing(axes, "reuse of negatives")
    axes.bar([whole(times, "reuse") for times in facts["reuse"]], list(facts["reuse"].values()), color=BLUE)
    axes.set_title(
        f"reuse: {100 * facts['unique_negatives']:.1f}% of the negatives are unique", loc="left", fontsize=10
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("times a chunk is used")
    axes.set_ylabel("chunks")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return None


def _mix(axes: Any, facts: dict[str, Any]) -> None:
    corpus = facts.get("corpus", {}).get("sources", {})
    names = list(facts["sources"])[:12][::-1]
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], [100 * facts["sources"][name] for name in names], 0.4, color=BLUE,
              label="samples")  # fmt: skip
    if corpus:
        axes.barh([place - 0.2 for place in places], [100 * corpus.get(name, 0) for name in names], 0.4, color=GREY,
                  label="corpus")  # fmt: skip
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set_ylim(-0.6, max(len(names), FEW // 2) - 0.1)  # one source is no bar as thick as the figure
    axes.set_xlabel("% of the tokens (of the corpus: of the chunks)")
    axes.set_title("mix of sources", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
