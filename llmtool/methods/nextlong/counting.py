"""What one pass over the samples counts, and what a closer look at the first CLOSELY of them adds."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.repeats import longest
from llmtool.methods.nextlong.vectors import SCALE

RANKS = 256
CLOSELY = 48
"""Samples whose texts are compared, spread over the output."""

LONG = 256
"""Characters of a common substring that count as the same text."""

Row = dict[str, Any]


@dataclass
class Counts:
    """What the samples hold."""

    samples: int = 0
    tokens: int = 0
    targets: Counter[int] = field(default_factory=Counter)
    """Samples by their length: a mixture has two."""

    extended: int = 0
    inside: int = 0
    gaps: list[int] = field(default_factory=list)
    metas: list[int] = field(default_factory=list)
    negatives: int = 0
    leaks: int = 0
    use: Counter[int] = field(default_factory=Counter)
    score_sum: Any = field(default_factory=lambda: np.zeros(RANKS))
    score_count: Any = field(default_factory=lambda: np.zeros(RANKS, np.int64))
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    margins: list[float] = field(default_factory=list)
    by_source: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By source of the seed: samples, pairs, zero_gaps, negatives, refilled, weak, looked_at, of_meta, repeated."""

    longest_meta: int = 0
    longest_repeat: int = 0

    def add(self, row: Row, floor: float | None) -> None:
        """One sample; floor: the cosine that random pairs have."""
        self.samples += 1
        self.tokens += row["target"]
        self.targets[row["target"]] += 1
        spans = row["spans"]
        metas = [span for span in spans if span["role"] == "meta"]
        cut = bool(metas) and metas[-1] is spans[-1] and metas[-1]["tokens"][1] >= row["target"] - row.get("behind", 0)
        # a seed longer than the target (--keep-long) has nothing to be inside of
        if metas and "chunks" not in metas[0]:
            self.extended += 1
            self.inside += len(metas) == row["seed_chunks"] and not cut
        self.metas.append(len(metas))
        self.gaps += [b["tokens"][0] - a["tokens"][1] for a, b in pairwise(metas)]
        own = self.by_source[row.get("seed_source", "")]
        own["samples"] += 1
        own["pairs"] += max(0, len(metas) - 1)
        own["zero_gaps"] += sum(a["role"] == b["role"] == "meta" for a, b in pairwise(spans))
        for span in spans:
            if span["role"] != "negative":
                continue
            self.negatives += 1
            own["negatives"] += 1
            own["refilled"] += span.get("refill", False)
            own["weak"] += floor is not None and span["score"] < floor
            self.use[span["chunk_id"]] += 1
            rank = min(span["rank"], RANKS) - 1
            self.score_sum[rank] += span["score"]
            self.score_count[rank] += 1
        self.sources.update(row["sources"])
        self.licences.update(row.get("licences", {}))

    def compare(self, row: Row, texts: Sequence[str]) -> None:
        """Text that the sample holds twice."""
        roles = [span["role"] for span in row["spans"]]
        with_meta, repeated = longest(texts, roles)
        own = self.by_source[row.get("seed_source", "")]
        own["looked_at"] += sum(role != "meta" for role in roles)
        own["of_meta"] += int((with_meta >= LONG).sum())
        own["repeated"] += int((repeated >= LONG).sum())
        self.longest_meta = max(self.longest_meta, int(with_meta.max(initial=0)))
        self.longest_repeat = max(self.longest_repeat, int(repeated.max(initial=0)))

    def measure(self, row: Row, embedded: Embedded, position: str | None = None) -> None:
        """Hardness margin cos(m_i, m_(i+1)) - mean_j cos(m_i, n_ij)."""
        metas = [span["chunk_id"] for span in row["spans"] if span["role"] == "meta"]
        if len(metas) < 2 or embedded.embedder == "bm25":
            return
        scores = groups(row, position)
        vectors = dict(zip(metas, embedded.vectors.rows(np.array(metas)).astype(np.float64), strict=True))
        for meta, following in pairwise(metas):
            if scores.get(meta):
                near = float(vectors[meta] @ vectors[following]) / SCALE**2
                self.margins.append(near - float(np.mean(scores[meta])))

    def total(self, name: str) -> int:
        """Of a figure by source."""
        return sum(each[name] for each in self.by_source.values())


def groups(row: Row, position: str | None = None) -> dict[int, list[float]]:
    """Similarities of the negatives of each meta-chunk; one that found nothing (--plan paper) has none.

    position: where a meta-chunk stands in its group. What does not know it (older runs) has it told by the spans.
    """
    spans = row["spans"]
    metas = [span["chunk_id"] for span in spans if span["role"] == "meta"]
    found: dict[int, list[float]] = {meta: [] for meta in metas}
    for span, owner in zip(spans, _owners(spans, position), strict=True):
        if span["role"] == "negative" and 0 <= owner < len(metas) and not span.get("refill"):
            found[metas[owner]].append(span["score"])
    return found


def _owners(spans: Sequence[Row], position: str | None) -> list[int]:
    """The number of each negative's meta-chunk in the order of the text; -1 where none can be told."""
    before = list(accumulate(span["role"] == "meta" for span in spans))  # meta-chunks, itself included
    starts = list(accumulate(span["role"] == "negative" and span["rank"] == 1 for span in spans))  # groups begun
    if position is None:
        empty = bool(spans) and spans[0]["role"] == "meta" and starts[-1] < before[-1]
        position = "head" if empty else "random"
    if position == "head":
        return [number - 1 for number in before]
    if position == "tail":
        return before
    if starts and starts[-1] >= before[-1]:  # ranks begin again at 1 where a group begins
        return [number - 1 for number in starts]
    # some groups are empty: sure are meta-chunks that have negatives of one group on both sides
    inside = {
        starts[place]: before[place] - 1
        for place in range(1, len(spans) - 1)
        if spans[place]["role"] == "meta" and starts[place] and starts[place + 1] == starts[place]
        and spans[place + 1]["role"] == spans[place - 1]["role"] == "negative"
    }  # fmt: skip
    return [inside.get(number, -1) for number in starts]
