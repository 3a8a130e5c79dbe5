"""BM25 as the index: no vectors, but postings of weights in whole numbers, so that scores are exact and ties are ties.

idf = log(1 + (N - n + 0.5) / (n + 0.5)), weight = idf tf (k1 + 1) / (tf + k1 (1 - b + b |d| / avg |d|)), k1 = 1.5,
b = 0.75 (Robertson and Zaragoza 2009, idf as in Lucene). A query is a chunk: its TERMS rarest words. Building holds all
postings in memory: for corpora up to some 300,000 chunks.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.methods.nextlong.embedding import LONGEST, batches
from llmtool.methods.nextlong.search import F32, I64, best, likely
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE
from llmtool.methods.nextlong.words import U64, owners, word_hashes

K1, B = 1.5, 0.75
TERMS = 64
MOST = 0.2
"""Words in more chunks than this say nothing."""

STEPS = 64
"""Weights are counted in 1/64: 64 terms of at most 40 stay below 2^24, where float32 counts exactly."""

_ARRAYS = ("words", "starts", "chunks", "weights")


def _counted(store: Store, console: Console) -> Iterator[tuple[U64, I64, I64, int]]:
    """(word, chunk, tf) of each batch, and the words of it."""
    first = 0
    with console.progress("indexing", store.chunks, "chunks") as bar:
        for texts in batches(store, 0, store.chunks):
            hashes, ends = word_hashes(texts)
            names, place = np.unique(hashes, return_inverse=True)
            keys, tf = np.unique(owners(ends) * max(1, len(names)) + place, return_counts=True)
            chunk, word = np.divmod(keys, max(1, len(names)))
            yield names[word], chunk + first, tf.astype(np.int64), len(hashes)
            first += len(texts)
            bar.advance(len(texts))


def build(stage: Stage, store: Store, console: Console) -> None:
    """Postings by word: words [V], starts [V + 1], chunks and weights of each posting."""
    parts = list(_counted(store, console))
    words = np.concatenate([part[0] for part in parts])
    chunks = np.concatenate([part[1] for part in parts])
    tf = np.concatenate([part[2] for part in parts])
    lengths = np.bincount(chunks, tf, store.chunks)
    names, place, counts = np.unique(words, return_inverse=True, return_counts=True)
    kept = (counts <= max(1, MOST * store.chunks)) & (counts > 1)
    chosen = kept[place]
    column = (np.cumsum(kept) - 1)[place[chosen]]
    chunks, tf = chunks[chosen], tf[chosen]
    order = np.lexsort((chunks, column))
    column, chunks, tf = column[order], chunks[order], tf[order].astype(np.float64)
    frequency = counts[kept][column]
    idf = np.log1p((store.chunks - frequency + 0.5) / (frequency + 0.5))
    norm = K1 * (1 - B + B * lengths[chunks] / max(1.0, float(lengths.mean())))
    weights = np.maximum(1, np.rint(STEPS * idf * tf * (K1 + 1) / (tf + norm)))
    starts = np.searchsorted(column, np.arange(int(kept.sum()) + 1))
    arrays = (names[kept], starts.astype(np.int64), chunks.astype(np.uint32), weights.astype(np.uint16))
    for name, array in zip(_ARRAYS, arrays, strict=True):
        save_array(stage.directory / f"bm25.{name}.npy", array)
    stage.seal({"units": 0, "kind": "bm25", "words": len(names), "postings": len(chunks), "recall_at_64": 1.0})


class Bm25:
    """Searches the postings; scores are BM25 / 100 on the scale of inner products, so that they print alike."""

    def __init__(self, stage: Stage, store: Store) -> None:
        arrays = [map_array(stage.directory / f"bm25.{name}.npy") for name in _ARRAYS]
        self._words, self._starts, self._chunks, self._weights = arrays
        self._store = store

    def terms(self, text: bytes) -> npt.NDArray[np.int64]:
        """The rarest known words of a text, by (frequency, word)."""
        names = np.unique(word_hashes([text[:LONGEST]])[0])
        place = np.minimum(np.searchsorted(self._words, names), max(0, len(self._words) - 1))
        place = place[self._words[place] == names] if len(self._words) else place[:0]
        sizes = self._starts[place + 1] - self._starts[place]
        return np.asarray(place[np.lexsort((place, sizes))[:TERMS]], np.int64)

    def search(self, chunks: I64, k: int) -> list[tuple[I64, F32]]:
        """See search.Searcher."""
        out = []
        for chunk in chunks.tolist():
            scores = np.zeros(self._store.chunks, np.float32)
            for term in self.terms(self._store.text(chunk)).tolist():
                a, b = self._starts[term], self._starts[term + 1]
                scores[self._chunks[a:b]] += self._weights[a:b]
            places = likely(scores, k, 1.0)
            ids, found = best(scores[places], places.astype(np.int64), k)
            out.append((ids, (found * np.float32(SCALE**2 / STEPS / 100)).astype(np.float32)))
        return out
