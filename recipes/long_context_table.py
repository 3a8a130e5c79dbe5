"""The table and the figure of long_context.sh: needles and loss by position, over seeds, paired against one-stage ABF.

Intervals: 95%, Student's t over the seeds. A difference whose interval holds 0 is marked as not resolved: with three
seeds most are.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from intervals import interval

from llmtool.core.run.json_file import dumps

RIVAL = "abf"
ORDER = ("none", "pi", "ntk", "yarn", "abf", "stages", "uniform", "paper", "search")


def read() -> dict[tuple[str, str, int], dict[str, float]]:
    """(method, data, seed) -> recall at the greatest length and in all cells, loss of the row, of its last quarter."""
    found = {}
    for path in sorted(Path().glob("run-*.niah.json")):
        _, method, data, seed = path.name.removesuffix(".niah.json").split("-")
        cells = json.loads(path.read_text())["cells"]
        (source,) = json.loads(Path(path.name.replace("niah", "loss")).read_text())["sources"].values()
        places = source["positions"]
        longest = max(cell["length"] for cell in cells)  # the target, unless LENGTHS says otherwise
        far = [cell["recall"] for cell in cells if cell["length"] == longest]
        found[method, data, int(seed)] = {
            "needles": float(np.mean([cell["recall"] for cell in cells])), "needles_far": float(np.mean(far)),
            "loss": source["loss"], "loss_far": float(np.mean(places[-len(places) // 4 :])),
        }  # fmt: skip
    return found


def table(found: dict[tuple[str, str, int], dict[str, float]]) -> list[dict[str, Any]]:
    """A row a method and kind of data, with differences to RIVAL paired by seed."""
    rows = []
    methods = [method for method in ORDER if any(key[0] == method for key in found)]
    for data in sorted({key[1] for key in found}):
        for method in methods:
            seeds = [key[2] for key in found if key[:2] == (method, data)]
            row: dict[str, Any] = {"data": data, "method": method, "seeds": len(seeds)}
            for figure in ("needles", "needles_far", "loss", "loss_far"):
                own = [found[method, data, seed][figure] for seed in seeds]
                row[figure] = float(np.mean(own))
                pairs = [(seed, value) for seed, value in zip(seeds, own, strict=True) if (RIVAL, data, seed) in found]
                differences = [value - found[RIVAL, data, seed][figure] for seed, value in pairs]
                row[f"{figure}_over_{RIVAL}"] = interval(differences) if differences else None
            rows.append(row)
    return rows


def show(rows: list[dict[str, Any]], target: int) -> None:
    """Markdown on stdout."""
    heads = (
        "data",
        "method",
        "seeds",
        "needles",
        f"at {target:,}",
        "against abf",
        "loss",
        "last quarter",
        "against abf",
    )
    print("| " + " | ".join((*heads, "resolved")) + " |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        paired = row["method"] != RIVAL and row[f"loss_far_over_{RIVAL}"] is not None
        (needle, needle_half), (loss, loss_half) = (
            (row[f"needles_far_over_{RIVAL}"], row[f"loss_far_over_{RIVAL}"]) if paired else ((0.0, 0.0), (0.0, 0.0))
        )
        resolved = [name for name, mean, half in (("needles", needle, needle_half), ("loss", loss, loss_half))
                    if abs(mean) > half]  # fmt: skip
        print(
            f"| {row['data']} | {row['method']} | {row['seeds']} | {row['needles']:.1%} | {row['needles_far']:.1%} | "
            + (f"{100 * needle:+.1f} ± {100 * needle_half:.1f} points | " if paired else "- | ")
            + f"{row['loss']:.4f} | {row['loss_far']:.4f} | "
            + (f"{loss:+.4f} ± {loss_half:.4f} | {', '.join(resolved) or 'nothing'} |" if paired else "- | - |")
        )


def draw(rows: list[dict[str, Any]], target: int) -> None:
    """Loss of the last quarter of positions, a bar a method, with the interval of its difference to RIVAL."""
    from matplotlib.figure import Figure

    kinds = sorted({row["data"] for row in rows})
    sheet = Figure(figsize=(4.2 * len(kinds), 3.4), layout="constrained")
    panels = sheet.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        own = [row for row in rows if row["data"] == kind and row[f"loss_far_over_{RIVAL}"]]
        heights = [row[f"loss_far_over_{RIVAL}"][0] for row in own]
        halves = [row[f"loss_far_over_{RIVAL}"][1] for row in own]
        bars = [0 if not np.isfinite(half) else half for half in halves]
        axes.errorbar(range(len(own)), heights, yerr=bars, fmt="o", color="#1f4e79", capsize=3)
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set_xticks(range(len(own)), [row["method"] for row in own], rotation=30)
        axes.set_title(f"trained on {kind}", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"nats a token less abf's,\nlast quarter of {target:,} positions")
    sheet.savefig("results.png", dpi=150)


def main() -> None:
    """results.json, results.png and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    given = parser.parse_args()
    rows = table(read())
    Path("results.json").write_text(dumps({"short": given.short, "target": given.target, "rows": rows}, indent=1))
    show(rows, given.target)
    draw(rows, given.target)


main()
