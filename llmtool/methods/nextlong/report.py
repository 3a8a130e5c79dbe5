"""The quality of a run: every figure is counted from the samples as written, and from the vectors where they remain."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import copies
from llmtool.methods.nextlong.counting import CLOSELY, LONG, Counts
from llmtool.methods.nextlong.duplicates import Contamination
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.indexing import searcher
from llmtool.methods.nextlong.samples import OLDER_SEPARATOR, done_of, rows, separator_of
from llmtool.methods.nextlong.search import Flat
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.words import word_hashes

SCHEMA = "llmtool.data-report/2"

BLOCK = 1 << 20
"""Chunks whose lengths are read together."""

QUERIES, NEIGHBOURS = 200, 64
"""Chunks searched, and how far down, for the recall of the index."""


def work_of(output: Path) -> Path | None:
    """The work directory of an output, if it still stands."""
    path = output / done_of(output).text("work")
    return path if (path / "chunks" / "done.json").exists() else None


def report(
    output: Path, console: Console, decontaminate: Sequence[str], ngram: int, fields: Sequence[str]
) -> dict[str, Any]:
    """All figures of a run as one object."""
    work = work_of(output)
    done = done_of(output).facts
    separator = separator_of(output)
    counts = Counts()
    store = Store(work) if work else None
    embedded = Embedded(work) if work and (work / "vectors" / "done.json").exists() else None
    known = Contamination.read(decontaminate, ngram, fields) if decontaminate else None
    level = done.get("min_similarity")
    levels = {done["target"]: level}  # a packed sample is shorter, and its negatives nearer
    other = (done.get("packed") or {}).get("min_similarity", level)
    dirty = 0
    with console.progress("reading samples", done["samples"], "samples") as bar:
        for row in rows(output):
            counts.add(row, levels.get(row["target"], other))
            if store:
                counts.leaks += _leaks(row, store)
            if embedded:
                counts.measure(row, embedded, done.get("position"))
            if (store or "text" in row) and counts.samples % max(1, done["samples"] // CLOSELY) == 0:
                counts.compare(row, texts_of(row, store))
            if known is not None:
                hit = known(*word_hashes([text_of(row, store, separator)]))
                dirty += bool(hit[0])
            bar.advance(1)
    facts = _facts(counts, done)
    facts["min_similarity"] = level
    facts["same_document_leaks"] = counts.leaks if store else None
    if known is not None:
        facts["contaminated_samples"] = dirty
    if store:
        facts["corpus"] = {"documents": store.documents, "chunks": store.chunks, "sources": _corpus_mix(store)}
    if work and (work / "copies" / "done.json").exists():
        facts["copies"] = Stage.existing(work / "copies", "").totals()
    if embedded and embedded.embedder != "bm25" and work and _indexed(work):
        facts["recall"] = recall(work, embedded)
    return facts


def _indexed(work: Path) -> bool:
    return (work / "index" / "done.json").exists()


def texts_of(row: dict[str, Any], store: Store | None) -> list[str]:
    """The text of each span."""
    if "text" in row:
        return [row["text"][slice(*span["chars"])] for span in row["spans"]]
    assert store is not None
    return [span_text(span, store) for span in row["spans"]]


def text_of(row: dict[str, Any], store: Store | None, separator: str = OLDER_SEPARATOR) -> bytes:
    """A sample's text; from the chunks where only ids were written."""
    if "text" in row:
        return str(row["text"]).encode()
    if store is None:
        raise UserError("the samples hold ids only and the work directory is gone", hint="keep OUT/work")
    return separator.encode().join(span_text(span, store).encode() for span in row["spans"])


def span_text(span: dict[str, Any], store: Store) -> str:
    """Text of a span, from its chunks: one, or the run of a document's that some methods take; cut as the sample is."""
    first = _chunk(span, store)
    start, stop = span["chars"]
    return store.passage(first, first + span.get("chunks", 1), 1 << 40).decode()[: stop - start]


def _chunk(span: dict[str, Any], store: Store) -> int:
    """The first chunk of a span, where it and the ones behind it are of this corpus."""
    first: int = span["chunk_id"]
    if first + span.get("chunks", 1) > store.chunks:
        raise UserError(f"chunk {first:,}: the work directory holds {store.chunks:,}",
                        hint="is it the one that these samples were made from?")  # fmt: skip
    return first


def _leaks(row: dict[str, Any], store: Store) -> int:
    """Negatives that are chunks of the seed."""
    metas = {int(store.document_of(_chunk(span, store))) for span in row["spans"] if span["role"] == "meta"}
    others = [_chunk(span, store) for span in row["spans"] if span["role"] == "negative"]
    return int(np.isin(store.document_of(np.array(others, np.int64)), list(metas)).sum())


def _facts(counts: Counts, done: dict[str, Any]) -> dict[str, Any]:
    gaps = np.array(counts.gaps or [0])
    seen = counts.score_count > 0
    means = counts.score_sum[seen] / counts.score_count[seen]
    reuse = Counter(min(number, 10) for number in counts.use.values())
    total = sum(counts.sources.values())
    looked = counts.total("looked_at")
    return {
        "schema": SCHEMA, "method": done["method"], "samples": counts.samples, "target": done["target"],
        "targets": {str(target): counts.targets[target] for target in sorted(counts.targets, reverse=True)},
        "tokens": counts.tokens, "tried": done.get("tried"), "rejects": done.get("rejects", {}),
        "accepted": done.get("accepted"), "not_candidates": done.get("not_candidates", {}),
        "left_out": done.get("left_out", {}), "packed": done.get("packed"), "negatives": counts.negatives,
        "all_metas_inside": counts.inside / counts.extended if counts.extended else None,
        "metas": _spread(np.array(counts.metas)) if any(counts.metas) else None,
        "dependency_gap": _spread(gaps) if counts.gaps else None,
        "gap_histogram": _histogram(gaps) if counts.gaps else None,
        "similarity_by_rank": dict(zip((np.flatnonzero(seen) + 1).tolist(), means.round(4).tolist(), strict=True)),
        "negatives_by_rank": dict(
            zip((np.flatnonzero(seen) + 1).tolist(), counts.score_count[seen].tolist(), strict=True)
        ),
        "hardness_margin": _spread(np.array(counts.margins)) if counts.margins else None,
        "zero_gaps": counts.total("zero_gaps"), "pairs": counts.total("pairs"),
        "refilled": counts.total("refilled"), "weak": counts.total("weak"),
        "repeats": {
            "negatives": looked, "with_meta_text": counts.total("of_meta"), "repeated": counts.total("repeated"),
            "characters": LONG, "longest_of_meta": counts.longest_meta, "longest_repeated": counts.longest_repeat,
        } if looked else None,
        "by_source": {name: dict(found) for name, found in sorted(counts.by_source.items())},
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
    """Share of each source in the characters of the corpus."""
    size = np.zeros(len(store.sources))
    for start in range(0, store.chunks, BLOCK):
        stop = min(store.chunks, start + BLOCK)
        sources = store.source[store.document_of(np.arange(start, stop))]
        size += np.bincount(sources, store.lengths(start, stop), len(store.sources))
    return {name: float(each) for name, each in zip(store.sources, size / size.sum(), strict=True)}


def recall(work: Path, embedded: Embedded, queries: int = QUERIES, k: int = NEIGHBOURS) -> dict[str, Any]:
    """Share of the exact k nearest chunks that the index finds, over chunks drawn evenly."""
    stage = Stage.existing(work / "index", "llmtool data index")
    count = len(embedded.sketches)
    chunks = np.unique(np.linspace(0, count - 1, min(queries, count)).astype(np.int64))
    pool = copies.flags(work, embedded) == 0
    k = min(k, int(pool.sum()))
    kind = stage.settings["index"]
    if kind == "flat":
        return {"index": kind, "k": k, "recall": 1.0, "queries": len(chunks)}
    exact = Flat(embedded.vectors, pool).search(chunks, k)
    found = searcher(work, Store(work), embedded).search(chunks, k)
    shares = [len(np.intersect1d(a, b)) / len(a) for (a, _), (b, _) in zip(exact, found, strict=True)]
    return {"index": kind, "k": k, "recall": float(np.mean(shares)), "queries": len(chunks)}
