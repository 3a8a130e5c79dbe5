"""The table and figures of recipes/dsmoe.sh: python recipes/dsmoe_results.py OUTDIR --share 0.375 --seeds 0 1 2.

Loss: mean over the held-out sources, each counted once. Intervals: 95%, Student's t over seeds; differences are paired,
because the runs of one seed see the same rows in the same order.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import t

NAMES = {
    "dsmoe": "DSMoE",
    "dsmoe-off": "DSMoE without straight-through",
    "topk": "LLaMA-MoE top-3 of 8",
    "channels": "channels pruned",
    "exact": "DSMoE from the exact start",
    "exact-off": "the same without straight-through",
    "dense-on": "dense, trained on (every weight active)",
}
COLOURS = {"dsmoe": "#1f4e79", "dsmoe-off": "#8fb1d1", "topk": "#c8501e", "channels": "#3a7d44"}


def last_eval(run: Path) -> dict[str, float]:
    """Loss on each held-out source after the last step."""
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {name: found["loss"] for name, found in row["eval"].items()}


def mean(values: Any) -> float:
    """Of any numbers."""
    values = list(values)
    return float(sum(values) / len(values))


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95% interval; None for a single value."""
    middle = mean(values)
    if len(values) < 2:
        return middle, None
    deviation = math.sqrt(sum((v - middle) ** 2 for v in values) / (len(values) - 1))
    return middle, float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))


def spread(values: list[float], sign: str = "") -> str:
    """For the table."""
    middle, half = interval(values)
    return f"{middle:{sign}.4f}" + (f" ± {half:.4f}" if half is not None else " (one seed)")


def collect(out: Path, seeds: list[int], share: float) -> dict[str, Any]:
    """Everything that was measured, by variant and seed."""
    found: dict[str, Any] = {}
    for name in NAMES:
        for seed in seeds:
            run = out / f"{name}-{seed}"
            if not (run / "run.json").is_file() or not (run / "metrics.jsonl").is_file():
                continue
            losses = last_eval(run)
            entry: dict[str, Any] = {"loss": mean(losses.values()), "sources": losses, "active": share}
            if name == "dense-on":
                entry["active"] = 1.0
            experts = out / f"{name}-{seed}.experts.json"
            if experts.is_file():
                facts = json.loads(experts.read_text())
                entry |= {"active": facts["all"]["active"], "none": facts["all"]["no_expert"], "curve": facts["curve"]}
                entry["active_by_source"] = {key: s["active_by_layer"] for key, s in facts["sources"].items()}
            found.setdefault(name, {})[str(seed)] = entry
    return found


def table(found: dict[str, Any], dense: dict[str, float], share: float) -> str:
    """Markdown."""
    lines = [
        "| | seeds | active share of the feed-forward weights | loss, nats | against DSMoE, paired |",
        "|---|---|---|---|---|",
        f"| the dense model before | 1 | 100% | {mean(dense.values()):.4f} | |",
    ]
    own = found.get("dsmoe", {})
    for name, runs in found.items():
        active = mean(run["active"] for run in runs.values())
        differences = [run["loss"] - own[seed]["loss"] for seed, run in runs.items() if seed in own]
        against = spread(differences, "+") if differences and name != "dsmoe" else ""
        losses = spread([run["loss"] for run in runs.values()])
        lines.append(f"| {NAMES[name]} | {len(runs)} | {active:.1%} | {losses} | {against} |")
    if own:
        taus = [point["tau"] for point in next(iter(own.values())).get("curve", [])]
        lines += ["", "| tau | loss | active share | tokens without any expert |", "|---|---|---|---|"]
        for place, tau in enumerate(taus):
            points = [run["curve"][place] for run in own.values() if "curve" in run]
            lines.append(
                f"| {tau:g} | {spread([p['loss'] for p in points])} | {mean(p['active'] for p in points):.1%} | "
                f"{mean(p['no_expert'] for p in points):.1%} |"
            )
    lines += [
        "",
        f"Wanted share {share:.1%}. The thresholds are those of DSMoE's runs, which were trained at 0.5; their",
    ]
    lines += ["losses are over tokens of `eval experts`, the table's above over the rows of `train --valid`."]
    return "\n".join(lines) + "\n"


def bare(axes: Any) -> None:
    """No box, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_losses(found: dict[str, Any], dense: dict[str, float], path: Path) -> None:
    """A point a seed, and the interval."""
    sheet = Figure(layout="constrained", figsize=(7.5, 0.55 * len(found) + 1.2))
    axes = sheet.subplots()
    for place, (name, runs) in enumerate(found.items()):
        values = [run["loss"] for run in runs.values()]
        middle, half = interval(values)
        colour = COLOURS.get(name, "#777777")
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.6)
        axes.errorbar(middle, place, xerr=half, fmt="|", color=colour, markersize=14, capsize=3)
    axes.axvline(mean(dense.values()), color="#999999", linewidth=1, linestyle=":")
    axes.annotate(" dense before", (mean(dense.values()), -0.45), color="#777777", fontsize=8, va="bottom")
    axes.set_yticks(range(len(found)), [NAMES[name] for name in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("held-out loss, nats; a point a seed, bar: 95%")
    bare(axes)
    sheet.savefig(path, dpi=150)


def draw_taus(found: dict[str, Any], path: Path) -> None:
    """Loss against the share of active blocks, a point a threshold."""
    sheet = Figure(layout="constrained", figsize=(7, 4.2))
    axes = sheet.subplots()
    for name in ("dsmoe", "dsmoe-off"):
        for number, run in enumerate(found.get(name, {}).values()):
            points = run.get("curve", [])
            label = NAMES[name] if number == 0 else None
            shares = [100 * p["active"] for p in points]
            axes.plot(shares, [p["loss"] for p in points], "o-", markersize=3, linewidth=1.2,
                      color=COLOURS[name], alpha=0.8, label=label)  # fmt: skip
            for point in points if number == 0 else ():
                axes.annotate(f" {point['tau']:g}", (100 * point["active"], point["loss"]), fontsize=7, va="bottom")
    axes.set_xlabel("% of blocks active; numbers: tau")
    axes.set_ylabel("loss, nats")
    axes.legend(frameon=False, fontsize=9)
    bare(axes)
    sheet.savefig(path, dpi=150)


def main() -> None:
    """Read, write, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.375)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    out: Path = arguments.out
    found, dense = collect(out, arguments.seeds, arguments.share), last_eval(out / "dense")
    manifest = json.loads((out / "dense" / "run.json").read_text())
    facts = {"schema": "llmtool.recipe-dsmoe/1", "git": manifest["git"], "machine": manifest["machine"],
             "share": arguments.share, "dense": dense, "runs": found}  # fmt: skip
    (out / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "results.md").write_text(table(found, dense, arguments.share))
    draw_losses(found, dense, out / "losses.png")
    draw_taus(found, out / "tau.png")
    print(table(found, dense, arguments.share))


if __name__ == "__main__":
    main()
