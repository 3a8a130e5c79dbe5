"""The tables and figures of cartesian_moe.sh, mask_moe.sh and finedeep.sh, over seeds, paired against one rival.

    python experts_table.py OUT RIVAL        results.json, results.png and Markdown on stdout

Intervals: 95%, Student's t over the seeds, of differences paired by seed. One that holds 0 is marked: nothing is
resolved, and with three seeds most are. One seed has no interval, and a variant without the rival's seed no difference.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from intervals import difference, interval, shown

from llmtool.core.run.json_file import dumps


def table(rows: list[dict[str, Any]], rival: str) -> list[dict[str, Any]]:
    """A row a variant, lowest loss first; no difference where no seed was run of both."""
    by: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by.setdefault(row["variant"], {})[row["seed"]] = row
    other = by.get(rival, {})
    found = []
    for name, seeds in by.items():
        made: dict[str, Any] = {
            "variant": name, "seeds": len(seeds), "pairs_of_seeds": len(seeds.keys() & other.keys()),
            "loss": float(np.mean([row["loss"] for row in seeds.values()])),
            "tokens_per_second": float(np.mean([row["tokens"] / row["cpu_seconds"] for row in seeds.values()])),
            "over_rival": difference(by_seed(seeds, "loss"), by_seed(other, "loss")),
            "deciles_over_rival": [
                difference(by_seed(seeds, "deciles", place), by_seed(other, "deciles", place))
                for place in range(len(next(iter(seeds.values()))["deciles"]))
            ],
        }  # fmt: skip
        if all("best_off" in row for row in seeds.values()):
            made["best_off"] = interval([row["best_off"] - row["loss"] for row in seeds.values()])
        for key in ("cartesian_moe.pairs", "cartesian_moe.pair_entropy"):
            values = [row["figures"].get(key) for row in seeds.values()]
            if all(value is not None for value in values):
                made[key.removeprefix("cartesian_moe.")] = float(np.mean(values))
        found.append(made)
    return sorted(found, key=lambda row: row["loss"])


def by_seed(rows: dict[int, dict[str, Any]], key: str, place: int | None = None) -> dict[int, float]:
    """Seed -> a figure of its row, or one of a list of them."""
    return {seed: row[key] if place is None else row[key][place] for seed, row in rows.items()}


def show(rows: list[dict[str, Any]], rival: str) -> None:
    """Markdown."""
    more = [key for key in ("best_off", "pairs", "pair_entropy") if any(key in row for row in rows)]
    names = {"best_off": "best expert off", "pairs": "pairs in use", "pair_entropy": "entropy of pairs"}
    heads = ["variant", "seeds", "loss", f"over {rival}", "rarest tenth", "most frequent tenth", "tokens a CPU second"]
    print("| " + " | ".join([*heads, *(names[key] for key in more)]) + " |")
    print("|" + "---|" * (len(heads) + len(more)))
    for row in rows:
        own = row["variant"] == rival
        spans = [row["over_rival"], row["deciles_over_rival"][0], row["deciles_over_rival"][-1]]
        cells = [shown(None if own else span, 4) for span in spans]
        extra = []
        for key in more:
            value = row.get(key)
            extra.append("" if value is None else shown(value, 3) if key == "best_off" else f"{value:.2f}")
        print("| " + " | ".join([row["variant"], str(row["seeds"]), f"{row['loss']:.4f}", *cells,
                                 f"{row['tokens_per_second']:,.0f}", *extra]) + " |")  # fmt: skip


def draw(rows: list[dict[str, Any]], rival: str, path: Path) -> None:
    """Two panels: the loss less the rival's with its interval, and the same by decile of the id's frequency."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(11, 4), layout="constrained")
    whole, parts = sheet.subplots(1, 2)
    rows = [row for row in rows if row["over_rival"] is not None]
    names = [row["variant"] for row in rows]
    means, halves = zip(*(row["over_rival"] for row in rows), strict=True)
    whole.errorbar(means, range(len(rows)), xerr=[0 if not np.isfinite(half) else half for half in halves], fmt="o",
                   color="#1f4e79", capsize=3)  # fmt: skip
    whole.axvline(0, color="#999999", linewidth=0.8)
    whole.set_yticks(range(len(rows)), names)
    whole.invert_yaxis()
    whole.set_xlabel(f"nats a token over {rival}'s, 95% over seeds")
    for row in rows:
        if row["variant"] != rival:
            parts.plot(range(1, 1 + len(row["deciles_over_rival"])), [mean for mean, _ in row["deciles_over_rival"]],
                       marker="o", markersize=3, label=row["variant"])  # fmt: skip
    parts.axhline(0, color="#999999", linewidth=0.8)
    parts.set_xlabel("tenth of the occurrences; 1: the rarest ids")
    parts.set_ylabel(f"nats a token over {rival}'s")
    parts.legend(frameon=False, fontsize=8)
    for axes in (whole, parts):
        axes.spines[["top", "right"]].set_visible(False)
    sheet.savefig(path, dpi=140)


def main(out: Path, rival: str) -> None:
    """Read the rows, write and print what they say."""
    found = [json.loads(path.read_text()) for path in sorted((out / "rows").glob("*.json"))]
    if not found:
        sys.exit(f"{out}/rows: no results yet")
    rows = table(found, rival)
    facts = {"study": found[0]["study"], "tokens": found[0]["tokens"], "rival": rival, "rows": rows}
    (out / "results.json").write_text(dumps(facts, indent=1) + "\n")
    show(rows, rival)
    if any(row["variant"] == rival for row in rows):
        draw(rows, rival, out / "results.png")
    else:
        print(f"no row of {rival}: no differences and no figure", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python experts_table.py OUT RIVAL")
    main(Path(sys.argv[1]), sys.argv[2])
