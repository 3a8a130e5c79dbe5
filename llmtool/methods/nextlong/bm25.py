"""BM25 as the index: no vectors, but postings of weights in whole numbers, so that scores are exact and ties are ties.

idf = log(1 + (N - n + 0.5) / (n + 0.5)), weight = idf tf (k1 + 1) / (tf + k1 (1 - b + b |d| / avg |d|)), k1 = 1.5,
b = 0.75 (Robertson and Zaragoza 2009, idf as in Lucene). A query is a chunk: the TERMS words that weigh most in it. Its
rarest words would be the wrong ones: misspellings, names that occur twice, and in Japanese single rare characters.
Building holds all postings in memory: for corpora up to some 300,000 chunks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.methods.nextlong.embedding import batches
from llmtool.methods.nextlong.search import F32, I64, best, likely
from llmtool.methods.nextlong.store import LONGEST, Store
from llmtool.methods.nextlong.vectors import SCALE
from llmtool.methods.nextlong.words import U64, owners, word_hashes

K1, B = 1.5, 0.75
TERMS = 128
MOST = 0.2
"""Words in more chunks than this say nothing."""

STEPS = 64
"""Weights are counted in 1/64: 128 terms of at most 40 stay below 2^24, where float32 counts exactly."""

_ARRAYS = ("words", "idf", "starts", "chunks", "weights", "mean")


def weigh(idf: npt.NDArray[Any], tf: npt.NDArray[Any], lengths: Any, mean: float) -> npt.NDArray[np.float64]:
    """The weight of a word that occurs tf times in a chunk of so many words."""
    return np.asarray(idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths / mean)), np.float64)


def _counted(store: Store, console: Console) -> Iterator[tuple[U64, I64, I64]]:
    """(word, chunk, tf) of each batch."""
    first = 0
    with console.progress("indexing", store.chunks, "chunks") as bar:
        for texts in batches(store, 0, store.chunks):
            hashes, ends = word_hashes(texts)
            names, place = np.unique(hashes, return_inverse=True)
            keys, tf = np.unique(owners(ends) * max(1, len(names)) + place, return_counts=True)
            chunk, word = np.divmod(keys, max(1, len(names)))
            yield names[word], chunk + first, tf.astype(np.int64)
            first += len(texts)
            bar.advance(len(texts))


def build(stage: Stage, store: Store, pool: npt.NDArray[np.bool_], console: Console) -> dict[str, Any]:
    """Postings by word: words and idf [V], starts [V + 1], chunks and weights of each. pool: as of search.Flat."""
    parts = [[each[pool[part[1]]] for each in part] for part in _counted(store, console)]
    words, chunks, tf = (np.concatenate(each) for each in zip(*parts, strict=True))
    lengths = np.bincount(chunks, tf, store.chunks)
    mean = max(1.0, float(lengths.sum() / max(1, pool.sum())))
    names, place, counts = np.unique(words, return_inverse=True, return_counts=True)
    kept = (counts <= max(1, MOST * pool.sum())) & (counts > 1)
    chosen = kept[place]
    column = (np.cumsum(kept) - 1)[place[chosen]]
    chunks, tf = chunks[chosen], tf[chosen]
    order = np.lexsort((chunks, column))
    column, chunks, tf = column[order], chunks[order], tf[order]
    frequency = counts[kept]
    idf = np.log1p((pool.sum() - frequency + 0.5) / (frequency + 0.5))
    weights = np.maximum(1, np.rint(STEPS * weigh(idf[column], tf, lengths[chunks], mean)))
    starts = np.searchsorted(column, np.arange(int(kept.sum()) + 1))
    arrays = (
        names[kept], idf, starts.astype(np.int64), chunks.astype(np.uint32), weights.astype(np.uint16),
        np.array([mean]),
    )  # fmt: skip
    for name, array in zip(_ARRAYS, arrays, strict=True):
        save_array(stage.directory / f"bm25.{name}.npy", array)
    return {"units": 0, "kind": "bm25", "words": len(names), "postings": len(chunks), "recall_at_64": 1.0}


class Bm25:
    """Searches the postings; scores are BM25 / 100 on the scale of inner products, so that they print alike."""

    def __init__(self, stage: Stage, store: Store) -> None:
        arrays = [map_array(stage.directory / f"bm25.{name}.npy") for name in _ARRAYS]
        self._words, self._idf, self._starts, self._chunks, self._weights, mean = arrays
        self._mean = float(mean[0])
        self._store = store

    def terms(self, text: bytes) -> npt.NDArray[np.int64]:
        """The known words that weigh most in a text, by (weight descending, word)."""
        hashes = word_hashes([text[:LONGEST]])[0]
        names, tf = np.unique(hashes, return_counts=True)
        place = np.minimum(np.searchsorted(self._words, names), max(0, len(self._words) - 1))
        known = self._words[place] == names if len(self._words) else np.zeros(len(names), np.bool_)
        place, tf = place[known], tf[known]
        weights = np.rint(STEPS * weigh(self._idf[place], tf, len(hashes), self._mean))
        return np.asarray(place[np.lexsort((place, -weights))[:TERMS]], np.int64)

    def _products(self, chunk: int) -> F32:
        """Sums of weights of all chunks [chunks]."""
        found = np.zeros(self._store.chunks, np.float32)
        for term in self.terms(self._store.text(chunk)).tolist():
            a, b = self._starts[term], self._starts[term + 1]
            found[self._chunks[a:b]] += self._weights[a:b]
        return found

    def scores(self, chunk: int, others: I64) -> F32:
        """See hardness.Scorer."""
        return _scaled(self._products(chunk)[others])

    def search(self, chunks: I64, k: int) -> list[tuple[I64, F32]]:
        """See search.Searcher."""
        out = []
        for chunk in chunks.tolist():
            scores = self._products(chunk)
            places = likely(scores, k, 1.0)
            ids, found = best(scores[places], places.astype(np.int64), k)
            out.append((ids, _scaled(found)))
        return out


def _scaled(sums: F32) -> F32:
    return np.asarray(sums * np.float32(SCALE**2 / STEPS / 100), np.float32)
