"""Near-duplicates and contamination: chunks that share word sequences with a meta-chunk or with an evaluation file.

A sketch is one-permutation MinHash of a chunk's 5-word shingles: 64 bins, 16 bits each, 128 bytes a chunk; the share of
equal bins estimates the Jaccard overlap with a standard error of at most 0.0625.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.readers import read_documents
from llmtool.methods.nextlong.words import I64, U64, ngrams, owners, word_hashes

BINS = 64
SHINGLE = 5
EMPTY = np.uint16(0xFFFF)
Sketches = npt.NDArray[np.uint16]


def sketches(hashes: U64, ends: I64) -> Sketches:
    """Sketch of each text [texts, 64]; texts shorter than a shingle are sketched by their words."""
    out = np.full((len(ends), BINS), EMPTY, np.uint16)
    flat = out.reshape(-1)
    counts = np.diff(ends, prepend=0)
    parts = [ngrams(hashes, ends, SHINGLE)]
    if (few := (counts > 0) & (counts < SHINGLE)).any():
        text = owners(ends)
        parts.append((hashes[few[text]], text[few[text]]))
    for values, text in parts:
        places = text * BINS + (values >> np.uint64(58)).astype(np.int64)
        lowest = (values >> np.uint64(40)).astype(np.uint16)
        np.minimum.at(flat, places, np.minimum(lowest, EMPTY - 1))
    return out


def overlap(one: Sketches, many: Sketches) -> npt.NDArray[np.float32]:
    """Estimated overlap of one sketch [64] with each of many [M, 64]; nothing overlaps with an empty text."""
    either = (one != EMPTY) | (many != EMPTY)
    equal = (one == many) & (one != EMPTY)
    share = equal.sum(1) / np.maximum(1, either.sum(1))
    return np.asarray(share, np.float32)


class Contamination:
    """The word n-grams of evaluation files; a chunk that holds one of them is contaminated."""

    def __init__(self, hashes: U64, n: int, short: int) -> None:
        self._n = n
        self._known = np.unique(hashes)
        self._filter = np.zeros(1 << 24, np.bool_)
        self._filter[(self._known >> np.uint64(40)).astype(np.int64)] = True
        self.short = short
        """Evaluation texts shorter than an n-gram: they cannot be looked for."""

    @classmethod
    def read(cls, files: Sequence[str], n: int, field: str = "text") -> "Contamination":
        """Of all texts of the files; plain text is read line by line."""
        texts = [document.text for document in read_documents(files, field=field, text_mode="line", whole=True)]
        parts, short = [], 0
        for start in range(0, len(texts), 4096):
            hashes, ends = word_hashes(texts[start : start + 4096])
            parts.append(ngrams(hashes, ends, n)[0])
            short += int((np.diff(ends, prepend=0) < n).sum())
        return cls(np.concatenate(parts), n, short)

    def __call__(self, hashes: U64, ends: I64) -> npt.NDArray[np.bool_]:
        """Whether each text holds one of the n-grams [texts]."""
        found, text = ngrams(hashes, ends, self._n)
        likely = self._filter[(found >> np.uint64(40)).astype(np.int64)]
        hit = np.isin(found[likely], self._known)
        out = np.zeros(len(ends), np.bool_)
        out[text[likely][hit]] = True
        return out


def names(files: Sequence[str]) -> list[str]:
    """Evaluation files as provenance names them."""
    return [Path(file).name for file in files]
