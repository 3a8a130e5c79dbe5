"""The quality of a run: every figure is counted from the samples as written, and from the vectors where they remain."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.methods.nextlong.duplicates import Contamination
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.indexing import searcher
from llmtool.methods.nextlong.mining import near_duplicates
from llmtool.methods.nextlong.search import Flat
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE
from llmtool.methods.nextlong.words import word_hashes

SCHEMA = "llmtool.data-report/1"
RANKS = 256
CLOSELY = 200
"""Samples whose vectors are looked at."""

QUERIES, NEIGHBOURS = 200, 64
"""Chunks searched, and how far down, for the recall of the index."""


@dataclass
class Counts:
    """What one pass over the samples counts."""

    samples: int = 0
    tokens: int = 0
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
    duplicates: int = 0
    compared: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """One sample."""
        self.samples += 1
        self.tokens += row["target"]
        spans = row["spans"]
        metas = [span for span in spans if span["role"] == "meta"]
        cut = bool(metas) and metas[-1] is spans[-1] and metas[-1]["tokens"][1] >= row["target"]
        if (
            metas and "chunks" not in metas[0]
        ):  # a seed longer than the target (--keep-long) has nothing to be inside of
            self.extended += 1
            self.inside += len(metas) == row["seed_chunks"] and not cut
        self.metas.append(len(metas))
        self.gaps += [b["tokens"][0] - a["tokens"][1] for a, b in pairwise(metas)]
        for span in spans:
            if span["role"] != "negative":
                continue
            self.negatives += 1
            self.use[span["chunk_id"]] += 1
            rank = min(span["rank"], RANKS) - 1
            self.score_sum[rank] += span["score"]
            self.score_count[rank] += 1
        self.sources.update(row["sources"])
        self.licences.update(row.get("licences", {}))


def rows(output: Path) -> Iterator[dict[str, Any]]:
    """All samples of an output directory in order, with their text where the format is JSONL."""
    parts = sorted(output.glob("samples-*.jsonl")) or sorted(output.glob("spans-*.jsonl"))
    if not parts:
        raise UserError("holds no samples", where=str(output), hint="name the directory that `data nextlong -o` wrote")
    for part in parts:
        with part.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise UserError("not a sample", where=f"{part}:{number}") from None


def work_of(output: Path) -> Path | None:
    """The work directory of an output, if it still stands."""
    done = output / "done.json"
    if not done.exists():
        raise UserError("is not complete", where=str(output), hint="run the same command again: it goes on")
    path = output / read_json_object(done)["work"]
    return path if (path / "chunks" / "done.json").exists() else None


def report(output: Path, console: Console, decontaminate: Sequence[str], ngram: int) -> dict[str, Any]:
    """All figures of a run as one object."""
    work = work_of(output)
    done = read_json_object(output / "done.json")
    counts = Counts()
    store = Store(work) if work else None
    embedded = Embedded(work) if work and (work / "vectors" / "done.json").exists() else None
    known = Contamination.read(decontaminate, ngram) if decontaminate else None
    dirty = 0
    with console.progress("reading samples", done["samples"], "samples") as bar:
        for row in rows(output):
            counts.add(row)
            if store:
                counts.leaks += _leaks(row, store)
            if embedded and store and counts.samples <= CLOSELY:
                _look_closely(counts, row, embedded)
            if known is not None:
                hit = known(*word_hashes([text_of(row, store)]))
                dirty += bool(hit[0])
            bar.advance(1)
    facts = _facts(counts, done)
    facts["same_document_leaks"] = counts.leaks if store else None
    if known is not None:
        facts["contaminated_samples"] = dirty
    if store:
        facts["corpus"] = {"documents": store.documents, "chunks": store.chunks, "sources": _corpus_mix(store)}
    if embedded and embedded.embedder != "bm25" and work:
        facts["recall"] = recall(work, embedded)
    return facts


def text_of(row: dict[str, Any], store: Store | None) -> bytes:
    """A sample's text; from the chunks where only ids were written."""
    if "text" in row:
        return str(row["text"]).encode()
    if store is None:
        raise UserError("the samples hold ids only and the work directory is gone", hint="keep OUT/work")
    return b"\n\n".join(span_text(span, store).encode() for span in row["spans"])


def span_text(span: dict[str, Any], store: Store) -> str:
    """Text of a span, from its chunks: one, or the run of a document's that some methods take; cut as the sample is."""
    first = span["chunk_id"]
    start, stop = span["chars"]
    return store.passage(first, first + span.get("chunks", 1), 1 << 40).decode()[: stop - start]


def _leaks(row: dict[str, Any], store: Store) -> int:
    """Negatives that are chunks of the seed."""
    metas = {int(store.document_of(span["chunk_id"])) for span in row["spans"] if span["role"] == "meta"}
    others = [span["chunk_id"] for span in row["spans"] if span["role"] == "negative"]
    return int(np.isin(store.document_of(np.array(others, np.int64)), list(metas)).sum())


def _look_closely(counts: Counts, row: dict[str, Any], embedded: Embedded) -> None:
    """Hardness margin cos(m_i, m_(i+1)) - mean_j cos(m_i, n_ij), and near-duplicates of meta-chunks."""
    metas = [span["chunk_id"] for span in row["spans"] if span["role"] == "meta"]
    negatives = [span["chunk_id"] for span in row["spans"] if span["role"] == "negative"]
    if not metas or not negatives:
        return
    sketches = embedded.sketches
    same = near_duplicates(sketches.rows(np.array(metas)), sketches.rows(np.array(negatives)), 0.3)
    counts.duplicates += int(same.sum())
    counts.compared += len(negatives)
    if embedded.embedder == "bm25":
        return
    scores: dict[int, list[float]] = {}
    order = [span["chunk_id"] for span in row["spans"] if span["role"] == "meta"]
    groups = _groups(row)
    vectors = dict(zip(metas, embedded.vectors.rows(np.array(metas)).astype(np.float64), strict=True))
    for meta, own in groups.items():
        scores[meta] = own
    for meta, following in pairwise(order):
        if scores.get(meta):
            near = float(vectors[meta] @ vectors[following]) / SCALE**2
            counts.margins.append(near - float(np.mean(scores[meta])))


def _groups(row: dict[str, Any]) -> dict[int, list[float]]:
    """Similarities of the negatives of each meta-chunk: ranks begin again at 1 where a group begins."""
    metas = [span["chunk_id"] for span in row["spans"] if span["role"] == "meta"]
    groups: dict[int, list[float]] = {meta: [] for meta in metas}
    number = -1
    for span in row["spans"]:
        if span["role"] == "negative":
            number += span["rank"] == 1
            if 0 <= number < len(metas):
                groups[metas[number]].append(span["score"])
    return groups


def _facts(counts: Counts, done: dict[str, Any]) -> dict[str, Any]:
    gaps = np.array(counts.gaps or [0])
    seen = counts.score_count > 0
    means = counts.score_sum[seen] / counts.score_count[seen]
    reuse = Counter(min(number, 10) for number in counts.use.values())
    total = sum(counts.sources.values())
    return {
        "schema": SCHEMA, "method": done["method"], "samples": counts.samples, "target": done["target"],
        "tokens": counts.tokens, "tried": done.get("tried"), "rejects": done.get("rejects", {}),
        "left_out": done.get("left_out", {}), "negatives": counts.negatives,
        "all_metas_inside": counts.inside / counts.extended if counts.extended else None,
        "metas": _spread(np.array(counts.metas)) if any(counts.metas) else None,
        "dependency_gap": _spread(gaps) if counts.gaps else None,
        "gap_histogram": _histogram(gaps) if counts.gaps else None,
        "similarity_by_rank": dict(zip((np.flatnonzero(seen) + 1).tolist(), means.round(4).tolist(), strict=True)),
        "negatives_by_rank": dict(
            zip((np.flatnonzero(seen) + 1).tolist(), counts.score_count[seen].tolist(), strict=True)
        ),
        "hardness_margin": _spread(np.array(counts.margins)) if counts.margins else None,
        "near_duplicate_rate": counts.duplicates / counts.compared if counts.compared else None,
        "unique_negatives": len(counts.use) / counts.negatives if counts.negatives else None,
        "reuse": {("10+" if n == 10 else str(n)): reuse[n] for n in sorted(reuse)},
        "sources": {name: size / total for name, size in counts.sources.most_common()},
        "licences": {name: size / total for name, size in counts.licences.most_common()},
    }  # fmt: skip


def _spread(values: Any) -> dict[str, float]:
    return {
        "min": float(values.min()), "mean": float(values.mean()), "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)), "max": float(values.max()),
    }  # fmt: skip


def _histogram(values: Any) -> dict[str, list[float]]:
    counts, edges = np.histogram(values, bins=40)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _corpus_mix(store: Store) -> dict[str, float]:
    chunks = np.bincount(store.source, np.diff(store.first), len(store.sources))
    return {name: float(size) for name, size in zip(store.sources, chunks / chunks.sum(), strict=True)}


def recall(work: Path, embedded: Embedded, queries: int = QUERIES, k: int = NEIGHBOURS) -> dict[str, Any]:
    """Share of the exact k nearest chunks that the index finds, over chunks drawn evenly."""
    stage = Stage.existing(work / "index", "llmtool data index")
    count = len(embedded.sketches)
    chunks = np.unique(np.linspace(0, count - 1, min(queries, count)).astype(np.int64))
    k = min(k, count)
    kind = stage.settings["index"]
    if kind == "flat":
        return {"index": kind, "k": k, "recall": 1.0, "queries": len(chunks)}
    exact = Flat(embedded.vectors).search(chunks, k)
    found = searcher(work, Store(work), embedded).search(chunks, k)
    shares = [len(np.intersect1d(a, b)) / len(a) for (a, _), (b, _) in zip(exact, found, strict=True)]
    return {"index": kind, "k": k, "recall": float(np.mean(shares)), "queries": len(chunks)}


def lines(facts: dict[str, Any]) -> list[list[str]]:
    """The report for people: rows of a table."""
    out = [
        ["samples", f"{facts['samples']:,} of {facts['target']:,} tokens"],
    ]
    if facts["all_metas_inside"] is not None:
        share = f"{100 * facts['all_metas_inside']:.2f}% of the samples"
        out.append(["all meta-chunks inside the target", share])
    for key, title, form in (
        ("metas", "meta-chunks in a sample", "{:,.0f}"),
        ("dependency_gap", "dependency gap, tokens", "{:,.0f}"),
        ("hardness_margin", "hardness margin, cosine", "{:+.3f}"),
    ):
        if facts[key]:
            text = ", ".join(f"{name} {form.format(facts[key][name])}" for name in ("min", "mean", "p95"))
            out.append([title, text])
    if ranks := facts["similarity_by_rank"]:
        shown = [rank for rank in (1, 2, 4, 8, 16, 32, 64, 128) if rank in ranks]
        out.append(["negatives' similarity by rank", ", ".join(f"{rank}: {ranks[rank]:.3f}" for rank in shown)])
    if facts["same_document_leaks"] is not None:
        out.append(["same-document leaks", f"{facts['same_document_leaks']:,} of {facts['negatives']:,} negatives"])
    if facts["near_duplicate_rate"] is not None:
        out.append(["near-duplicates of a meta-chunk", f"{100 * facts['near_duplicate_rate']:.2f}% of the negatives"])
    if facts["unique_negatives"] is not None:
        reuse = ", ".join(f"{n}x: {count:,}" for n, count in facts["reuse"].items())
        out.append(["unique negatives", f"{100 * facts['unique_negatives']:.1f}% (used {reuse})"])
    if "recall" in facts:
        found = facts["recall"]
        out.append([f"recall@{found['k']} of the index", f"{found['recall']:.3f} ({found['index']})"])
    if "dependency" in facts:
        found = facts["dependency"]
        text = "no pair fits into the model's context" if not found["pairs"] else (
            f"{found['gain']:+.4f} nats a token over {found['pairs']} meta-chunks"
            + (f" (standard error {found['standard_error']:.4f})" if found["standard_error"] is not None else "")
        )  # fmt: skip
        out.append(["gain from earlier meta-chunks", text])
    if "contaminated_samples" in facts:
        out.append(["samples with evaluation text", f"{facts['contaminated_samples']:,}"])
    if facts["tried"] is not None:
        accepted = facts["tried"] - sum(n for why, n in facts["rejects"].items() if why in _AFTER_TRIAL)
        out.append(["seeds accepted", f"{accepted:,} of {facts['tried']:,} tried"])
    out += [[f"rejected: {why}", f"{number:,}"] for why, number in facts["rejects"].items()]
    mix = facts.get("corpus", {}).get("sources", {})
    for name, share in list(facts["sources"].items())[:12]:
        beside = f" ({100 * mix[name]:.1f}% of the corpus)" if name in mix else ""
        out.append([f"source {name}", f"{100 * share:.1f}%{beside}"])
    out += [[f"licence {name}", f"{100 * share:.1f}%"] for name, share in facts["licences"].items()]
    return out


_AFTER_TRIAL = (
    "a chunk is longer than the target", "reaches the target by itself (--keep-long takes it)",
    "too short when joined", "too few negatives for the target", "the last meta-chunk does not fit",
    "shorter than the target",
)  # fmt: skip
