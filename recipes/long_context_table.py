"""The table and the figure of long_context.sh: needles and loss by position, over seeds, paired against one-stage ABF.

Intervals: 95%, Student's t over the seeds. A difference whose interval holds 0 is marked as not resolved: with three
seeds most are.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from intervals import difference, resolved, shown

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
            own, other = ({key[2]: facts for key, facts in found.items() if key[:2] == (name, data)}
                          for name in (method, RIVAL))  # fmt: skip
            if not own:
                continue
            row: dict[str, Any] = {"data": data, "method": method, "seeds": len(own)}
            for figure in ("needles", "needles_far", "loss", "loss_far"):
                values, theirs = ({seed: facts[figure] for seed, facts in one.items()} for one in (own, other))
                row[figure] = float(np.mean([*values.values()]))
                row[f"{figure}_over_{RIVAL}"] = difference(values, theirs)
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
        needle, loss = (
            None if row["method"] == RIVAL else row[f"{figure}_over_{RIVAL}"] for figure in ("needles_far", "loss_far")
        )
        found = [name for name, span in (("needles", needle), ("loss", loss)) if resolved(span)]
        print(
            f"| {row['data']} | {row['method']} | {row['seeds']} | {row['needles']:.1%} | {row['needles_far']:.1%} | "
            f"{shown(needle, 1, 100, ' points')} | {row['loss']:.4f} | {row['loss_far']:.4f} | {shown(loss, 4)} | "
            f"{'-' if loss is None else ', '.join(found) or 'nothing'} |"
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
    if any(row["method"] == RIVAL for row in rows):
        draw(rows, given.target)
    else:
        print(f"no run of {RIVAL}: no differences and no figure", file=sys.stderr)


if __name__ == "__main__":
    main()
