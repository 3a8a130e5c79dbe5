"""Tables and figures of recipes/real_model.sh from OUT/rows: results.json, results.md, share.png, cache.png.

A row's difference is against the dense checkpoint on the same tokens. Of rows that were trained, the mean over seeds
and a 95% interval (Student's t); `static` stands beside every routed result: it is the price of not routing at all.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from intervals import interval

Rows = dict[str, dict[str, Any]]

LOWEST_TOP, CUT = 0.5, 3.0
"""Nats: figures reach at least the one, and what lies above the other does not decide how far they reach."""

Trained = dict[tuple[str, str, int], list[dict[str, Any]]]
"""(name, what moved, tokens) -> a row for each seed."""


def read(folder: Path) -> tuple[Rows, Trained]:
    """Untrained rows by name, and trained ones."""
    untrained: Rows = {}
    trained: Trained = defaultdict(list)
    for path in sorted((folder / "rows").glob("*.json")):
        row = json.loads(path.read_text())
        if match := re.fullmatch(r"(.+)\+(heal)?(\d+)\+(\d+)", path.stem):
            trained[match[1], "the new parts" if match[2] else "everything", int(match[3])].append(row)
        else:
            untrained[path.stem] = row
    return untrained, trained


def told(values: list[float]) -> str:
    """Mean and half a 95% interval, or one value marked as such."""
    mean, half = interval(values)
    return f"{mean:+.3f} (one seed)" if len(values) < 2 else f"{mean:+.3f} ± {half:.3f}"


def share(row: dict[str, Any]) -> str:
    """Open blocks, least and most over the texts."""
    active = list(row["active"].values())
    if not active:
        return ""
    low, high = min(active), max(active)
    return f"{low:.1%}" if high - low < 5e-4 else f"{low:.1%} to {high:.1%}"


def made(row: dict[str, Any]) -> str:
    """How long it took, where that was measured."""
    seconds = row.get("seconds")
    return "" if not seconds else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def table(untrained: Rows, trained: Trained) -> str:
    """Markdown."""
    dense = untrained["dense"]
    names = list(dense["loss"])
    lines = [
        "| | open blocks | " + " | ".join(names) + " | KV bytes a token | read | written | made in |",
        "|---|---|" + "---|" * (len(names) + 4),
    ]
    for name, row in untrained.items():
        losses = [
            f"{row['loss'][text]:.3f}"
            + (f" ({row['loss'][text] - dense['loss'][text]:+.3f})" if row is not dense else "")
            for text in names
        ]
        lines.append(
            f"| {name} | {share(row)} | {' | '.join(losses)} | {row['kv_bytes_per_token'] or '':,} | "
            f"{row['read_tokens_per_cpu_second']:.0f} | {row['written_tokens_per_cpu_second']:.1f} | {made(row)} |"
        )
    if trained:
        lines += [
            "",
            "| after training | what moved | tokens | seeds | " + " | ".join(names) + " | open blocks | trained in |",
            "|---|---|---|---|" + "---|" * (len(names) + 2),
        ]
        for (name, what, tokens), rows in trained.items():
            changes = [told([row["loss"][text] - dense["loss"][text] for row in rows]) for text in names]
            lines.append(
                f"| {name} | {what} | {tokens:,} | {len(rows)} | {' | '.join(changes)} | {share(rows[0])} | "
                f"{made(rows[0])} |"
            )
    tasks = [(name, row["tasks"]) for name, row in untrained.items() if row.get("tasks")]
    if tasks:
        found = sorted({(task, metric) for _, each in tasks for task in each for metric in each[task]})
        lines += ["", "| lm-eval | " + " | ".join(f"{task} {metric}" for task, metric in found) + " |",
                  "|---|" + "---|" * len(found)]  # fmt: skip
        lines += [f"| {name} | " + " | ".join(f"{each.get(task, {}).get(metric, float('nan')):.4f}"
                                             for task, metric in found) + " |" for name, each in tasks]  # fmt: skip
    lines += ["", f"Nats a token on {dense['tokens']:,} tokens in rows of {dense['length']}, in brackets against "
              "dense; trained rows: what they are above the untrained dense model. read, written: tokens a second of "
              "CPU time; made, trained in: elapsed time, of a shared machine."]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(untrained: Rows, place: Path, kind: str) -> None:
    """Loss above dense by open share (kind "share") or by cache, a line a method that ends in dense, a panel a text."""
    dense = untrained["dense"]
    names = list(dense["loss"])
    lines: dict[str, list[tuple[float, dict[str, float]]]] = defaultdict(list)
    for name, row in untrained.items():
        method, _, number = name.rpartition("-")
        attention = method.startswith(("uniattn", "cla", "softmax"))
        if not number.isdigit() or "+" in name or attention != (kind == "cache"):
            continue
        x = float(f"0.{number}")
        if kind == "cache":
            x = row["kv_bytes_per_token"] / dense["kv_bytes_per_token"]
        elif row["active"]:
            x = float(np.mean(list(row["active"].values())))
        lines[method].append((x, {text: row["loss"][text] - dense["loss"][text] for text in names}))
    if not lines:
        return
    figure, panels = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 4), sharey=True, squeeze=False, layout="constrained"
    )
    seen = [loss for points in lines.values() for _, row in points for loss in row.values()]
    top = max([LOWEST_TOP, *(loss for loss in seen if loss < CUT)])
    for panel, text in zip(panels[0], names, strict=True):
        # There are more methods than colours.
        panel.set_prop_cycle(cycler(linestyle=("-", "--")) * plt.rcParams["axes.prop_cycle"])
        for method, points in sorted(lines.items()):
            places = sorted([(x, loss[text]) for x, loss in points] + [(1.0, 0.0)])
            (line,) = panel.plot(*zip(*places, strict=True), marker="o", markersize=3, label=method)
            above = [x for x, loss in places if loss > 1.1 * top]
            panel.plot(above, [1.07 * top] * len(above), "^", markersize=4, color=line.get_color())
        panel.set(
            title=text, xlabel="share of blocks open" if kind == "share" else "cache, of dense", ylim=(0, 1.1 * top)
        )
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("loss above dense, nats (▲: beyond)")
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize=7, loc="outside right upper", frameon=False)
    figure.savefig(place, dpi=130)
    plt.close(figure)


def main() -> None:
    """OUT -> its tables and figures."""
    out = Path(sys.argv[1])
    untrained, trained = read(out)
    if "dense" not in untrained:
        sys.exit(f"error: {out}/rows holds no dense.json (run the recipe without ONLY, or with ONLY='dense|...')")
    text = table(untrained, trained)
    (out / "results.md").write_text(text)
    facts = {"untrained": untrained, "trained": [
        {"name": name, "moved": what, "tokens": tokens, "seeds": rows} for (name, what, tokens), rows in trained.items()
    ]}  # fmt: skip
    (out / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    for kind in ("share", "cache"):
        draw(untrained, out / f"{kind}.png", kind)
    print(text)


if __name__ == "__main__":
    main()
