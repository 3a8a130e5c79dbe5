"""What a run would cost, from the sizes of its inputs and their first documents: the answer of --dry-run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.readers import read_documents, total_bytes
from llmtool.methods.nextlong.chunking import decoded, spans
from llmtool.methods.nextlong.indexing import EXACT_UP_TO

if TYPE_CHECKING:
    from llmtool.methods.nextlong.recipe import Recipe

LOOKED_AT = 2 << 20
CHUNKS_A_MINUTE = {"lsa": 20_000, "bm25": 5_000, "hf": 400, "http": 400, "https": 400}
"""Embedding and the rest on one core, as benchmarks/nextlong.py measured them (docs/methods/nextlong.md)."""

PAIRS_A_SECOND = 1.5e8
"""Pairs of chunks that exact search compares on one core."""


def estimate(
    corpora: Sequence[str], output: Path, tokenizer: BaseTokenizer, recipe: "Recipe", workers: int
) -> dict[str, Any]:
    """Chunks, bytes, seconds and samples, from the first LOOKED_AT bytes of text scaled to the sizes on disk."""
    reading, read, texts, chunks, long, tokens = recipe.reading, 0, 0, 0, 0, 0

    def count(number: int) -> None:
        nonlocal read
        read += number

    documents = read_documents(
        corpora, reading.text, whole=True,
        limit_bytes=LOOKED_AT, on_bytes=count,
    )  # fmt: skip
    for document in documents:
        text, reason = decoded(document.text)
        if reason:
            continue
        pieces = len(spans(text, reading.size, reading.split))
        texts += len(document.text)
        chunks += pieces
        long += pieces >= recipe.min_chunks
        tokens += len(tokenizer.encode(document.text))
    size = total_bytes(corpora, reading.text)
    # what was read is a whole number of blocks, at most one of which lies behind the last document looked at
    scale = 1.0 if size is None else max(1.0, size / max(1, min(read, size)))
    chunks, long, tokens, texts = (round(number * scale) for number in (chunks, long, tokens, texts))
    rows = recipe.samples or max(1, (recipe.tokens or tokens) // recipe.target)
    one, packed, _ = recipe.shares
    samples = max(1, round(rows * (one + packed * (recipe.target // (recipe.packed or recipe.target)))))
    wanted = samples
    if recipe.method == "nextlong" and long < samples:  # a sample for each seed, at most
        samples, rows = long, min(rows, max(1, rows * long // samples)) if long else 0
    kind = recipe.embedder.split(":")[0]
    queries = min(chunks, samples * max(1, chunks // max(1, long)))
    searched = queries * min(chunks, EXACT_UP_TO) / PAIRS_A_SECOND if recipe.method == "nextlong" else 0.0
    seconds = (chunks / CHUNKS_A_MINUTE[kind] * 60 + searched + rows * recipe.target / 1.5e6) / workers
    width = {"lsa": 512, "bm25": 0}.get(kind, 2048)
    wide = {"jsonl": texts / max(1, tokens) * 1.1, "bin": 4.0, "npy": 4.0, "mds": 4.0}[recipe.form]
    return {
        "schema": "llmtool.data-nextlong/1", "dry_run": True, "output": str(output), "method": recipe.method,
        "target": recipe.target, "exact": scale == 1.0, "chunks": chunks, "seeds": long, "corpus_tokens": tokens,
        "samples": samples, "wanted": wanted, "rows": rows,
        "bytes": round(texts + chunks * (width + 160) + rows * recipe.target * wide), "workers": workers,
        "seconds": round(seconds),
    }  # fmt: skip
