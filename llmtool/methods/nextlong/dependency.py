"""What a model makes of a sample: how much lower the loss of a meta-chunk is for having seen the ones before it.

Each m_(i+1) is scored twice: behind the text of the sample, and behind the same text without the earlier meta-chunks.
The difference is the dependency that the sample teaches; a model that cannot use it yet shows a gain near 0. By sample
it is what LongFilter ranks data by: those of little gain can be left out.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from llmtool.core.bpe.tokenizer import BaseTokenizer

SAMPLES, PAIRS = 32, 3
"""Samples looked at, and meta-chunks of each."""

Loss = Callable[[list[int], list[int]], float]
"""(ids before, ids scored) -> nats a token of the second."""


def contexts(row: dict[str, Any], number: int) -> tuple[str, str, str, int]:
    """(text before meta-chunk `number`, that without meta-chunks, the meta-chunk, tokens since the previous one)."""
    spans, text = row["spans"], row["text"]
    metas = [place for place, span in enumerate(spans) if span["role"] == "meta"]
    place = metas[number]
    start, stop = spans[place]["chars"]
    others = [text[slice(*span["chars"])] for span in spans[:place] if span["role"] != "meta"]
    separator = text[spans[place - 1]["chars"][1] : start]
    gap = spans[place]["tokens"][0] - spans[metas[number - 1]]["tokens"][1]
    return text[:start], separator.join(others) + separator, text[start:stop], gap


def measure(
    rows: Iterable[dict[str, Any]], tokenizer: BaseTokenizer, loss: Loss, longest: int, samples: int = SAMPLES
) -> dict[str, Any]:
    """Gains in nats a token over the first samples that have meta-chunks, and of each; longest: the model's context."""
    each: list[dict[str, Any]] = []
    gains: list[float] = []
    gaps: list[int] = []
    told: list[float] = []
    seen = 0
    for row in rows:
        count = sum(span["role"] == "meta" for span in row["spans"])
        if count < 2 or "text" not in row:
            continue
        before_this = len(gains)
        for number in np.unique(np.linspace(1, count - 1, PAIRS).astype(int)).tolist():
            before, without, meta, gap = contexts(row, number)
            scored = tokenizer.encode(meta)[: longest // 2]
            room = longest - len(scored)
            with_ids, without_ids = tokenizer.encode(before)[-room:], tokenizer.encode(without)[-room:]
            if not without_ids or not scored or gap >= room:  # the previous one lies beyond the model's context
                continue
            told.append(loss(with_ids, scored))
            gains.append(loss(without_ids, scored) - told[-1])
            gaps.append(gap)
        own = gains[before_this:]
        if own:
            mean = {"gain": round(float(np.mean(own)), 5), "loss": round(float(np.mean(told[before_this:])), 5)}
            each.append({"id": row["id"], "seed": row["seed"], "pairs": len(own), **mean})
        seen += 1
        if seen == samples:
            break
    if not gains:
        return {"pairs": 0}
    error = float(np.std(gains, ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else None
    return {
        "pairs": len(gains), "loss": float(np.mean(told)), "gain": float(np.mean(gains)), "standard_error": error,
        "samples": each,
        "gains": [[gap, round(gain, 5)] for gap, gain in zip(gaps, gains, strict=True)],
    }  # fmt: skip
