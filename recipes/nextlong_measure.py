"""What nextlong.sh measures on each model, over held-out documents none of them has seen.

distance: the loss of a document's second chunk when its first stands D tokens before it, hard negatives between them,
against the same text with the first chunk replaced by one more negative: the gain is what the first chunk tells over
that distance. needle: the loss of a number that a sentence D tokens earlier gave, against the same text with another
number in that sentence. ruler: share of what `eval ruler` asks for that the answer holds, all kinds of questions over
the held-out documents, at the target's length; a model this small answers none. Intervals: 95%, Student's t
over the seeds, of differences paired by seed.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import difference, shown

import llmtool
from llmtool import data
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.search import Flat
from llmtool.methods.nextlong.store import Store
from llmtool.model import load_model
from llmtool.tokenizer import Tokenizer

DOCUMENTS, NEEDLES = 48, 32
Case = tuple[list[int], list[int], list[int]]
"""Ids that come before with what is to be found, the same without it, and what is then scored."""


def cases(store: Store, flat: Flat, tokenizer: Tokenizer, distance: int) -> Iterator[Case]:
    """Of each document's first two chunks."""
    separator = tokenizer.encode("\n\n")
    chosen = [d for d in range(store.documents) if store.first[d + 1] - store.first[d] >= 2][:DOCUMENTS]
    found = flat.search(np.array([int(store.first[d]) for d in chosen]), 80)
    for document, (ids, _) in zip(chosen, found, strict=True):
        first = int(store.first[document])
        m1, m2 = (tokenizer.encode(store.text(c)) + separator for c in (first, first + 1))
        others = [int(c) for c in ids if int(store.document_of(int(c))) != document]
        negatives = [token for c in others for token in tokenizer.encode(store.text(c)) + separator]
        between, instead = negatives[:distance], negatives[distance : distance + len(m1)]
        yield m1 + between, instead + between, m2


def needles(store: Store, tokenizer: Tokenizer, distance: int) -> Iterator[Case]:
    """A sentence with a number, text of other documents, and the sentence again up to the number."""
    draw = np.random.Generator(np.random.PCG64(distance))
    names = ("Emma", "Henry", "Anna", "George", "Sarah", "Thomas", "Alice", "Edward")
    for number in range(NEEDLES):
        name, right, wrong = names[number % len(names)], *(str(draw.integers(1000, 9999)) for _ in range(2))
        start = int(draw.integers(0, store.chunks - 40))
        hay = [t for text in store.texts(start, start + 40) for t in tokenizer.encode(text + b"\n\n")][:distance]
        sentence = f"The secret number of {name} is "
        question = tokenizer.encode("\n\n" + sentence)
        told, other = (tokenizer.encode(sentence + value + ".\n\n") for value in (right, wrong))
        yield told + hay + question, other + hay + question, tokenizer.encode(right)


def loss(model: Any, before: list[int], scored: list[int]) -> float:
    """Nats a token of `scored` behind `before`."""
    ids: Any = torch.tensor([before + scored])
    with torch.inference_mode():
        logits = model(ids)[0, len(before) - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(before) :]))


def measure(
    checkpoint: Path, store: Store, flat: Flat, tokenizer: Tokenizer, distances: list[int], target: int
) -> dict[str, Any]:
    """Losses and gains by distance, and the score of RULER's questions."""
    model = load_model(checkpoint)
    facts: dict[str, Any] = {}
    for distance in distances:
        made = {"distance": cases(store, flat, tokenizer, distance), "needle": needles(store, tokenizer, distance)}
        for name, found in made.items():
            pairs = [(loss(model, with_, s), loss(model, without, s)) for with_, without, s in found]
            told, untold = np.mean(pairs, axis=0)
            facts[f"{name} {distance}"] = {"loss": float(told), "gain": float(untold - told)}
    asked = llmtool.eval.ruler(checkpoint, ["test.jsonl"], tokenizer="tok.json", length=[target], samples=2, threads=1)
    return facts | {"ruler": {"score": asked["mean"]}}


def draw(facts: dict[str, Any], distances: list[int], methods: list[str], path: Path) -> None:
    """Gain by distance for each method, its mean and range over the seeds."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(sheet.subplots(1, 2), ("distance", "needle"), strict=True):
        for method, colour in zip(methods, ("#555555", "#c8501e", "#1f4e79", "#3a7d44"), strict=False):
            runs = [run for key, run in facts.items() if key.rpartition("-")[0] == method]
            gains = np.array([[run[f"{name} {d}"]["gain"] for d in distances] for run in runs])
            axes.plot(distances, gains.mean(0), marker="o", markersize=3, color=colour, label=method)
            axes.fill_between(distances, gains.min(0), gains.max(0), color=colour, alpha=0.15, linewidth=0)
        base = [facts["base"][f"{name} {d}"]["gain"] for d in distances]
        axes.plot(distances, base, color="#b8c4d0", linestyle="--", label="before")
        axes.axhline(0, color="#999999", linewidth=0.6)
        title = "second chunk: gain from seeing the first" if name == "distance" else "number: gain from the needle"
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("tokens between")
        axes.set_ylabel("nats a token")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    sheet.savefig(path, dpi=150)


def main() -> None:
    """Measure every checkpoint, print the table, write results.json and results.png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--seeds", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = Path("work-test")
    data.chunk(["test.jsonl"], work, size=512, workers=1)
    data.embed(work, workers=1)
    store, flat, tokenizer = Store(work), Flat(Embedded(work).vectors), Tokenizer.load("tok.json")
    distances = [0, *(given.target * share // 8 for share in (1, 2, 4, 6))]
    names = ["base", *(f"{method}-{seed}" for method in given.methods for seed in given.seeds)]
    path = Path("results.json")
    facts = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        if name not in facts:
            checkpoint = Path("base" if name == "base" else f"more-{name}")
            facts[name] = measure(checkpoint, store, flat, tokenizer, distances, given.target)
            path.write_text(json.dumps(facts, indent=1))
    draw(facts, distances, given.methods, Path("results.png"))
    first = given.methods[0]
    print(f"{'':14}{'before':>8}" + "".join(f"{method:>32}" for method in given.methods))
    for key in facts["base"]:
        for figure in facts["base"][key]:
            row = f"{key:12} {figure:5}{facts['base'][key][figure]:>8.4f}"
            for method in given.methods:
                values, theirs = (
                    {seed: facts[f"{name}-{seed}"][key][figure] for seed in given.seeds} for name in (method, first)
                )
                against = "" if method == first else f" {shown(difference(values, theirs), 4)}"
                row += f"{np.mean([*values.values()]):.4f}{against}".rjust(32)
            print(row)
    print(f"behind each: difference to {first}, paired by seed, 95% interval over {len(given.seeds)} seeds")


main()
