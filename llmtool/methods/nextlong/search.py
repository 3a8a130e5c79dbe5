"""Exact search in numpy: the k most similar chunks by (similarity descending, chunk ascending)."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded
from llmtool.methods.nextlong.vectors import similarities

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
TILE, QUERIES = 1 << 16, 256
_STRIDE = 17


class Searcher(Protocol):
    """An index of all chunks."""

    def search(self, chunks: I64, k: int) -> list[tuple[I64, F32]]:
        """For each chunk [Q] the k most similar of the pool, itself if in it: (numbers, inner products), best first."""
        ...


def best(scores: F32, ids: I64, k: int) -> tuple[I64, F32]:
    """The k best of a row by (score descending, id ascending); of equal scores the lower id stands first already."""
    if len(scores) > k:
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = scores >= edge
        scores, ids = scores[kept], ids[kept]
    order = np.argsort(-scores, kind="stable")[:k]
    return ids[order], scores[order]


def likely(scores: F32, k: int, floor: float) -> I64:
    """Places that surely include the k best of a row and everything equal to the last of them.

    A threshold is guessed from every 17th score; one pass over the row then leaves few to sort (20 us instead of 400
    for 50,000). If the guess was too high the row is looked at again.
    """
    if len(scores) <= 4 * k:
        return np.flatnonzero(scores >= floor)
    sample = scores[::_STRIDE]
    place = len(sample) - min(len(sample), 2 * k // _STRIDE + 12)
    guess = max(float(np.partition(sample, place)[place]), floor)
    places = np.flatnonzero(scores >= guess)
    if len(places) < k and guess > floor:
        edge = max(float(np.partition(scores, len(scores) - k)[len(scores) - k]), floor)
        places = np.flatnonzero(scores >= edge)
    return places


class Flat:
    """Every chunk compared with every other, tile by tile: memory is bounded whatever the corpus.

    pool: whether each chunk may be found [chunks]; all of them if not given.
    """

    def __init__(self, vectors: Sharded, pool: npt.NDArray[np.bool_] | None = None) -> None:
        self._vectors = vectors
        self._pool = np.ones(len(vectors), np.bool_) if pool is None else pool
        step = max(1, TILE // vectors.size)
        self._tiles = [slice(place, place + step) for place in range(0, len(vectors.parts), step)]
        self._held: tuple[slice, I64, F32] | None = None

    def scores(self, chunk: int, others: I64) -> F32:
        """See hardness.Scorer."""
        return np.asarray(similarities(self._vectors.rows(np.array([chunk])), self._vectors.rows(others))[0])

    def _tile(self, place: slice) -> tuple[I64, F32]:
        """The chunks of a tile that may be found, ascending [N], and their vectors [N, d].

        The last one asked for is kept: of a corpus of one tile it is made once and not for every batch of queries.
        """
        if self._held is None or self._held[0] != place:
            self._held = None
            first = place.start * self._vectors.size
            tile = np.concatenate(self._vectors.parts[place])
            inside = np.flatnonzero(self._pool[first : first + len(tile)])
            self._held = (place, first + inside, tile[inside].astype(np.float32))
        return self._held[1:]

    def search(self, chunks: I64, k: int) -> list[tuple[I64, F32]]:
        """See Searcher."""
        queries = self._vectors.rows(chunks).astype(np.float32)
        ids: list[I64] = [np.zeros(0, np.int64)] * len(chunks)
        scores: list[F32] = [np.zeros(0, np.float32)] * len(chunks)
        for place in self._tiles:
            numbers, tile = self._tile(place)
            products = np.empty((min(QUERIES, len(chunks)), len(tile)), np.float32)
            for start in range(0, len(chunks), QUERIES):
                block = queries[start : start + QUERIES]
                np.matmul(block, tile.T, out=products[: len(block)])  # exact: see vectors.py
                for row, values in enumerate(products[: len(block)], start):
                    floor = float(scores[row][-1]) if len(scores[row]) == k else -np.inf
                    places = likely(values, k, floor)
                    found = np.concatenate([ids[row], numbers[places]])
                    ids[row], scores[row] = best(np.concatenate([scores[row], values[places]]), found, k)
        return list(zip(ids, scores, strict=True))
