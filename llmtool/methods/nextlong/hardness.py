"""What similarity says nothing: the level that random pairs of chunks of the corpus have.

A negative is hard if it is nearer to its meta-chunk than nearly all chunks are to one another. Of PAIRS random pairs of
chunks of different documents, drawn by length (or pairs of one-line poems would decide for novels), the share LEAST is
as near as a negative has to be, unless --min-similarity says otherwise. In a small corpus it is twice the share of its
chunks that one sample holds: they cannot all be among the nearest 2% if they are 5% of the corpus.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmtool.methods.nextlong.search import F32, I64
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE

PAIRS, QUERIES = 20_000, 200
LEAST = 0.02


class Scorer(Protocol):
    """An index that can say the similarity of any two chunks."""

    def scores(self, chunk: int, others: I64) -> F32:
        """Inner products of a chunk with others [N]."""
        ...


def random_pairs(index: Scorer, store: Store, pool: npt.NDArray[np.bool_], seed: int) -> list[float]:
    """The cosines of random pairs of the pool in percentiles, from 0 to 100 [101]; zeros where there are none."""
    chunks = np.flatnonzero(pool)
    if not len(chunks):
        return [0.0] * 101
    ends = np.cumsum(store.lengths(0, store.chunks)[chunks])
    draw = np.random.Generator(np.random.PCG64(seed))
    each = PAIRS // QUERIES
    found: list[F32] = []
    for row in np.searchsorted(ends, draw.integers(0, ends[-1], (QUERIES, each + 1)), "right"):
        query, others = int(chunks[row[0]]), chunks[row[1:]]
        others = others[store.document_of(others) != store.document_of(query)]
        if len(others):
            found.append(index.scores(query, others))
    products = np.concatenate(found) if found else np.zeros(1, np.float32)
    return [round(float(level), 4) for level in np.percentile(products, np.arange(101)) / SCALE**2]


def least(percentiles: npt.NDArray[Any], negatives: float, chunks: int) -> float:
    """The cosine that a negative has to have: so many negatives a sample, chunks in the index."""
    share = min(1.0, max(LEAST, 2 * negatives / max(1, chunks)))
    return float(np.interp(100 * (1 - share), np.arange(101), percentiles))
