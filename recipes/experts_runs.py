"""The runs behind cartesian_moe.sh, mask_moe.sh and finedeep.sh: python experts_runs.py STUDY OUT.

Small models on the standard library's sources, each variant from the same new weights or the same base for a seed, on
the same rows in the same order. A row of results, OUT/rows/VARIANT-SEED.json, is written when a run is whole; what
stands is kept, so a run that was stopped goes on. Settings come from the environment: SEEDS, TOKENS, LR, FILES.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import llmtool
from llmtool.core.corpus.sizes import parse_size
from llmtool.core.run.atomic import atomic_file
from llmtool.core.train.objective import IGNORED, Batch

VOCABULARY = 1024
DENSE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False,
}  # fmt: skip
EXPERTS = 8
EVERY_OTHER = [1, 3]
RULES = ("all", "one", "frequent-mass", "min-per-expert", "coin")
DECILES = 10
Variant = tuple[dict[str, Any], dict[str, Any] | None]


def variants(study: str) -> dict[str, Variant]:
    """Name -> (changes of the dense config, the method's entry). Those of mask_moe begin from a base: see `started`."""
    if study == "cartesian_moe":
        rivals = ("share", "top3", "hash", "fine", "topp", "deep")
        entries = {name: {"name": "cartesian_rival", "version": 1, "kind": name, "experts": EXPERTS,
                          "layers": EVERY_OTHER} for name in rivals}  # fmt: skip
        entries["cartesian"] = {"name": "cartesian_moe", "version": 1, "experts": EXPERTS, "top_k": 2, "grain": 2,
                                "shared": True, "layers": EVERY_OTHER}  # fmt: skip
        return {"dense": ({}, None)} | {name: ({}, entry) for name, entry in entries.items()}
    if study == "mask_moe":
        return {rule: ({}, None) for rule in RULES}
    grid = {f"M{m} K{k}": {"sublayers": m, "experts": k} for m, k in ((1, 1), (1, 8), (2, 1), (2, 4), (2, 8), (4, 4))}
    grid |= {f"M2 K4 {router}": {"sublayers": 2, "experts": 4, "router": router} for router in ("none", "input")}
    found: dict[str, Variant] = {
        name: ({}, {"name": "finedeep", "version": 1, "layers": [0, 1, 2, 3], **entry}) for name, entry in grid.items()
    }
    # The honest rival: as many layers as Finedeep's sub-layers, as narrow; with attention in each, so it has more.
    thin = {"num_hidden_layers": 8, "intermediate_size": 192}
    return {"dense": ({}, None), "dense thin": (thin, None), **found}


def prepared(work: Path, files: list[str]) -> None:
    """tok.json, train.bin and test.bin: every twentieth file is held out."""
    held = files[::20]
    seen = [name for place, name in enumerate(files) if place % 20]
    tokenizer = work / "tok.json"
    if not tokenizer.exists():
        llmtool.Tokenizer.train(seen, vocab_size=VOCABULARY, special=["<|endoftext|>"]).save(tokenizer)
    for name, texts in (("train", seen), ("test", held)):
        if not (work / f"{name}.npy").exists():
            codec = llmtool.Tokenizer.load(tokenizer)
            end = codec.encode("<|endoftext|>", allow_special=True)
            ids = [
                np.asarray([*codec.encode(Path(text).read_text("utf-8", "ignore")), *end], np.uint16) for text in texts
            ]
            with atomic_file(work / f"{name}.npy") as file:
                np.save(file, np.concatenate(ids))


def started(work: Path, study: str, name: str, variant: Variant, seed: int, rate: float, tokens: int) -> str:
    """Where training starts: a config.json; for mask_moe the seed's base, cut into experts by the variant's table."""
    changes, entry = variant
    raw = DENSE | changes
    if entry is None:
        raw |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    else:
        raw |= {"model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}}
    path = work / f"{name}.config.json"
    path.write_text(json.dumps(raw))
    if study != "mask_moe":
        return str(path)
    base, table, out = work / f"base-{seed}", work / f"{name}-{seed}.safetensors", work / f"start-{name}-{seed}"
    trained(work, str(path), base, seed, rate, tokens)
    if not table.exists():
        llmtool.data.token_experts([str(work / "train.npy")], table, model=str(base), experts=EXPERTS, rule=name,
                                   train_tokens=tokens, seed=seed)  # fmt: skip
    if not (out / "run.json").exists():
        llmtool.convert.mask(base, out, table=table)
    return str(out)


def trained(work: Path, model: str, out: Path, seed: int, rate: float, tokens: int) -> float:
    """A run, unless it stands already; the seconds of CPU time it took: a clock counts other work too."""
    if not (out / "run.json").exists():
        report = llmtool.train([str(work / "train.npy")], out, model=model, tokenizer=str(work / "tok.json"),
                               length=256, batch="4096", tokens=str(tokens), lr=rate, seed=seed, threads=1,
                               save_every=0, eval_every=0)  # fmt: skip
        if report["stopped"]:
            sys.exit(f"{out}: stopped by a signal; the same command goes on from there")
    return float(json.loads((out / "run.json").read_text())["cpu_seconds"])


def batches(work: Path, rows: int = 128, length: int = 256) -> Iterator[Batch]:
    """Held-out rows, eight at a time."""
    ids = np.load(work / "test.npy", mmap_mode="r")[: rows * (length + 1)].astype(np.int64)
    table = torch.from_numpy(ids[: len(ids) // (length + 1) * (length + 1)].reshape(-1, length + 1))
    for part in table.split(8):
        yield Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous())


def scored(work: Path, checkpoint: Path, **settings: dict[str, str]) -> tuple[float, list[float]]:
    """Loss of the held-out rows, and by decile of how often the predicted id is met in training, the rarest first.

    Deciles hold as many occurrences each, not as many ids.
    """
    counts = np.bincount(np.load(work / "train.npy", mmap_mode="r"), minlength=VOCABULARY)
    model = llmtool.load_model(checkpoint, settings=settings or None)
    order = np.argsort(counts, kind="stable")
    group = np.empty(VOCABULARY, np.int64)
    group[order] = np.minimum(counts[order].cumsum() * DECILES // counts.sum(), DECILES - 1)
    sums, numbers = np.zeros(DECILES), np.zeros(DECILES)
    for batch in batches(work):
        nats, labels = model.losses(batch).flatten().numpy(), batch.labels.flatten().numpy()
        real = labels != IGNORED
        at = group[labels[real]]
        sums += np.bincount(at, nats[real], DECILES)
        numbers += np.bincount(at, minlength=DECILES)
    return float(sums.sum() / numbers.sum()), (sums / np.maximum(numbers, 1)).tolist()


def last_figures(out: Path) -> dict[str, Any]:
    """What the method wrote into the last row of metrics.jsonl."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    figures: dict[str, Any] = next(row.get("figures", {}) for row in reversed(rows) if row.get("loss") is not None)
    return figures


def run(work: Path, study: str, name: str, variant: Variant, seed: int, rate: float, tokens: int) -> None:
    """One run and its row."""
    row = work / "rows" / f"{name}-{seed}.json"
    if row.exists():
        return
    out = work / f"run-{name}-{seed}"
    seconds = trained(work, started(work, study, name, variant, seed, rate, tokens), out, seed, rate, tokens)
    loss, deciles = scored(work, out)
    facts = {"study": study, "variant": name, "seed": seed, "loss": loss, "deciles": deciles, "tokens": tokens,
             "cpu_seconds": seconds, "figures": last_figures(out)}  # fmt: skip
    method = (variant[1] or {}).get("name") if study != "mask_moe" else "mask_moe"
    if method in ("cartesian_moe", "cartesian_rival", "mask_moe"):
        facts["best_off"] = scored(work, out, **{method: {"skip": "1"}})[0]
    row.parent.mkdir(exist_ok=True)
    with atomic_file(row) as file:
        file.write(json.dumps(facts, indent=1).encode())
    print(f"{name}, seed {seed}: {loss:.4f} nats a token, {facts['cpu_seconds']:.0f} s of CPU time", flush=True)


def main(study: str, work: Path) -> None:
    """Every run that is not there yet, a seed after the other."""
    work.mkdir(parents=True, exist_ok=True)
    library = Path(sysconfig.get_path("stdlib"))
    files = os.environ.get("FILES", "").split() or sorted(
        str(path) for path in library.rglob("*.py") if not {"site-packages", "test"} & set(path.parts)
    )
    tokens, rate = parse_size(os.environ.get("TOKENS", "1M")), float(os.environ.get("LR", "3e-3"))
    prepared(work, files)
    wanted = os.environ.get("VARIANTS", "").split(",") if os.environ.get("VARIANTS") else None
    for seed in map(int, os.environ.get("SEEDS", "1 2 3").split()):
        for name, variant in variants(study).items():
            if wanted is None or name in wanted:
                run(work, study, name, variant, seed, rate, tokens)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("cartesian_moe", "mask_moe", "finedeep"):
        sys.exit("usage: python experts_runs.py cartesian_moe|mask_moe|finedeep OUT")
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
