"""Vectors of whole numbers, so that every similarity is exact, on any machine, in any order of summation.

A unit vector is scaled to length 4064 and rounded to int16: an error of 1e-4 in a cosine. Rounding adds at most
sqrt(d) / 2 to the length, so it stays below 4096 up to d = 3,844, and the inner product of two such vectors, and every
partial sum of it, below 2^24 (Cauchy and Schwarz), where float32 counts without rounding: a BLAS with any number of
threads returns the same bits, and equal similarities are equal.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

SCALE = 4064
I16 = npt.NDArray[np.int16]
F32 = npt.NDArray[np.float32]


def quantise(vectors: npt.NDArray[Any]) -> I16:
    """[N, d] of any length -> [N, d] of length about 4064; zero vectors stay zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-9)
    return np.asarray(np.rint(unit * SCALE), np.int16)


def similarities(queries: I16, vectors: I16) -> F32:
    """Exact inner products [Q, N] of whole numbers, as float32."""
    return np.asarray(queries.astype(np.float32) @ vectors.astype(np.float32).T)


def cosine(products: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Inner products as cosines."""
    return np.asarray(products, np.float64) / SCALE**2
