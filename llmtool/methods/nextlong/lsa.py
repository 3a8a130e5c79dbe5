"""The embedder that needs no model: hashed TF-IDF and a seeded randomised SVD to 256 dimensions (LSA).

Fitted on a sample of the corpus. Words are 64-bit hashes; the FEATURES most frequent ones that occur in at least two
sampled chunks and in no more than MOST of them are columns. tf is 1 + log(count), idf is log((1 + n) / (1 + df)) + 1,
squared, rows have unit length; the SVD is Halko, Martinsson and Tropp's (arXiv 0909.4061) with two power iterations.
In it a row weighs the root of its words, or a corpus of many short poems and few novels has no dimension for novels.
With the plain idf common words fill the 256 dimensions: of a chunk's 10 nearest in a corpus of 20 languages 0.38 are of
its own document, with the squared one 0.43 (exact TF-IDF: 0.49).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.methods.nextlong.words import I64, U64, owners

DIMENSIONS = 256
SAMPLE = 20_000
FEATURES = 1 << 16
MOST = 0.5
_OVERSAMPLING, _POWER = 16, 2
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Lsa:
    """columns: sorted hashes of the words that count [F]; idf [F]; basis [F, dimensions]."""

    columns: U64
    idf: F32
    basis: F32

    def embed(self, hashes: U64, ends: I64) -> F32:
        """Vectors of texts [texts, dimensions]; not of unit length, zero for a text without a known word."""
        return np.asarray(tfidf(hashes, ends, self.columns, self.idf) @ self.basis, np.float32)

    def save(self, directory: Path) -> list[str]:
        """Write the arrays; returns their names."""
        for name in ("columns", "idf", "basis"):
            save_array(directory / f"lsa.{name}.npy", getattr(self, name))
        return [f"lsa.{name}.npy" for name in ("columns", "idf", "basis")]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(*(np.asarray(map_array(directory / f"lsa.{name}.npy")) for name in ("columns", "idf", "basis")))


def tfidf(hashes: U64, ends: I64, columns: U64, idf: F32) -> Any:
    """Rows of unit length as a sparse matrix [texts, F]."""
    from scipy.sparse import csr_array

    place = np.minimum(np.searchsorted(columns, hashes), max(0, len(columns) - 1))
    known = columns[place] == hashes if len(columns) else np.zeros(len(hashes), np.bool_)
    keys, counts = np.unique(owners(ends)[known] * max(1, len(columns)) + place[known], return_counts=True)
    rows, column = np.divmod(keys, max(1, len(columns)))
    values = ((1 + np.log(counts)) * idf[column]).astype(np.float32)
    starts = np.searchsorted(rows, np.arange(len(ends) + 1))
    norms = np.sqrt(np.bincount(rows, values.astype(np.float64) ** 2, len(ends)))
    values /= np.maximum(norms, 1e-12)[rows].astype(np.float32)
    return csr_array((values, column.astype(np.int32), starts.astype(np.int32)), shape=(len(ends), len(columns)))


def fit(parts: Iterable[tuple[U64, I64]], seed: int, dimensions: int = DIMENSIONS) -> Lsa:
    """Learn columns and basis from the words of sampled chunks."""
    kept = list(parts)
    texts = sum(len(ends) for _, ends in kept)
    found: list[U64] = []
    for hashes, ends in kept:
        order = np.lexsort((hashes, text := owners(ends)))
        h, t = hashes[order], text[order]
        new = np.ones(len(h), np.bool_)
        new[1:] = (h[1:] != h[:-1]) | (t[1:] != t[:-1])
        found.append(h[new])
    names, frequency = np.unique(np.concatenate(found), return_counts=True)
    usable = (frequency >= min(2, texts)) & (frequency <= max(1, MOST * texts))
    if not usable.any():
        usable[:] = True
    names, frequency = names[usable], frequency[usable]
    if len(names) > FEATURES:
        chosen = np.sort(np.lexsort((names, -frequency))[:FEATURES])
        names, frequency = names[chosen], frequency[chosen]
    idf = ((np.log((1 + texts) / (1 + frequency)) + 1) ** 2).astype(np.float32)
    from scipy.sparse import diags_array, vstack

    rows = [tfidf(hashes, ends, names, idf) for hashes, ends in kept]
    words = np.concatenate([np.diff(ends, prepend=0) for _, ends in kept])
    weights = np.sqrt(words / max(1.0, float(words.mean()))).astype(np.float32)
    matrix: Any = (diags_array(weights) @ vstack(rows, format="csr")).tocsr()
    return Lsa(names, idf, right_vectors(matrix, dimensions, seed))


def right_vectors(matrix: Any, dimensions: int, seed: int) -> F32:
    """The first right singular vectors [F, dimensions] of [n, F]; fewer singular vectors leave columns of zeros."""
    rows, columns = matrix.shape
    rank = min(dimensions + _OVERSAMPLING, rows, columns)
    test = np.random.Generator(np.random.PCG64(seed)).standard_normal((columns, rank), np.float32)
    basis = _orthonormal(matrix @ test)
    for _ in range(_POWER):
        basis = _orthonormal(matrix @ _orthonormal(matrix.T @ basis))
    right = _orthonormal(np.asarray(matrix.T @ basis))[:, :dimensions]
    out = np.zeros((columns, dimensions), np.float32)
    out[:, : right.shape[1]] = right
    return out


def _orthonormal(vectors: F32) -> F32:
    """The left singular vectors [n, r] of [n, k] whose singular values are not nothing, the largest first.

    From the products of the k columns in float64: a tenth of the time of a QR decomposition, and of the SVD at the end.
    Values that are 1e-6 of the largest are below float32's rounding.
    """
    exact = np.asarray(vectors, np.float64)
    squares, turn = np.linalg.eigh(exact.T @ exact)
    kept = np.flatnonzero(squares > 1e-12 * squares.max(initial=np.finfo(np.float64).tiny))[::-1]
    return np.asarray(exact @ (turn[:, kept] / np.sqrt(squares[kept])), np.float32)
