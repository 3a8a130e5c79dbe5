"""Results of recipes/uniattn.sh: held-out loss with paired intervals, cache bytes measured, a figure.

python recipes/uniattn_report.py WORK OUT      writes OUT/results.json, OUT/results.md, OUT/loss.png
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import interval, shown

from llmtool import load_model
from llmtool.core.model.cache import StaticCache
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import git_revision, machine
from llmtool.core.train.metrics import read_rows

VARIANTS = ("sft", "uniattn-lstsq", "uniattn-paper", "uniattn-zero", "softmax-only", "cla")
CLAIM = "The page's ordering: SFT at most a little better than UniAttn with its initialisation, then zero, then none."
CONTEXT = 256


def cache_bytes(path: Path) -> int:
    """Bytes that CONTEXT tokens take, measured."""
    model = load_model(path)
    cache = StaticCache(CONTEXT)
    with torch.inference_mode():
        model.decoder(torch.ones(1, CONTEXT, dtype=torch.long), cache=cache)
    return cache.bytes


def held_out(path: Path) -> tuple[float, int]:
    """Loss of the last evaluation, and the tokens trained on, stage 1 included."""
    rows = read_rows(path / "metrics.jsonl")
    first = path.with_name(path.name + ".stage1") / "metrics.jsonl"
    before = read_rows(first)[-1]["tokens"] if first.exists() else 0
    return float(rows[-1]["eval"]["valid"]["loss"]), int(rows[-1]["tokens"] + before)


def main(work: Path, out: Path) -> None:
    """Read the runs that are there."""
    finished = {
        v: sorted(int(p.parent.name.rsplit("-", 1)[1]) for p in work.glob(f"{v}-[0-9]/run.json")) for v in VARIANTS
    }
    seeds = sorted(set.intersection(*map(set, finished.values())))
    if not seeds:
        raise SystemExit(f"{work}: no seed of which every variant is finished")
    losses = {v: [held_out(work / f"{v}-{seed}") for seed in seeds] for v in VARIANTS}
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        path = work / f"{variant}-{seeds[0]}"
        found = [loss for loss, _ in losses[variant]]
        mean, half = interval([a - b for a, (b, _) in zip(found, losses["sft"], strict=True)])
        rows.append({
            "variant": variant, "loss": found, "mean": float(np.mean(found)), "minus_sft": mean, "interval": half,
            "tokens": losses[variant][0][1], "cache_bytes": cache_bytes(path),
            "parameters": sum(p.numel() for p in set(load_model(path).decoder.parameters())),
        })  # fmt: skip
    whole = rows[0]["cache_bytes"]
    bases = {str((work / f"base-{seed}").resolve()) for seed in seeds}
    base = read_rows(work / f"base-{seeds[0]}" / "metrics.jsonl")[-1]
    facts = {
        "schema": "llmtool.recipe-uniattn/1", "seeds": seeds, "base_models": len(bases), "base_tokens": base["tokens"],
        "base_loss": base["loss"], "context": CONTEXT, "variants": rows, "git": git_revision(), "machine": machine(),
        "torch": torch.__version__,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(dumps(facts, indent=2) + "\n")
    lines = [
        "| variant | held-out loss | minus SFT, paired, 95% | tokens | parameters | cache of 256 tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        paired = "" if row["variant"] == "sft" else shown((row["minus_sft"], row["interval"]), 4)
        lines.append(
            f"| {row['variant']} | {row['mean']:.4f} | {paired} | {row['tokens']:,} | {row['parameters']:,} | "
            f"{row['cache_bytes']:,} bytes ({row['cache_bytes'] / whole - 1:+.1%}) |"
        )
    about = (
        f"Seeds {', '.join(map(str, seeds))}; {len(bases)} base model{'s' if len(bases) > 1 else ''} of "
        f"{base['tokens']:,} tokens (training loss {base['loss']:.3f} at the end). Nats a held-out token."
    )
    (out / "results.md").write_text(f"{about}\n\n" + "\n".join(lines) + f"\n\n{CLAIM}\n")
    draw(rows, out / "loss.png")
    print((out / "results.md").read_text())


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Each seed a point, the paired interval a bar."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", figsize=(7, 3.2))
    axes = figure.add_subplot()
    names = [row["variant"] for row in rows[1:]][::-1]
    for place, row in enumerate(rows[1:][::-1]):
        paired = [a - b for a, b in zip(row["loss"], rows[0]["loss"], strict=True)]
        half = row["interval"] if np.isfinite(row["interval"]) else 0.0
        axes.errorbar(row["minus_sft"], place, xerr=half, fmt="|", color="#1f4e79", capsize=4)
        axes.plot(paired, [place] * len(paired), "o", color="#c8501e", markersize=4)
    axes.axvline(0, color="#b8c4d0")
    axes.set(
        yticks=range(len(names)), yticklabels=names, xlabel="held-out loss minus that of SFT, nats a trained token"
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
