"""Texts that share word sequences: sketches that find them; and evaluation files.

What counts is containment, the share of the smaller text's shingles (5 words in a row) that the other has too: a copy
with shifted borders, or a paragraph inside a longer chunk, has a small Jaccard overlap. A sketch is one-permutation
MinHash of the shingles: 64 bins, 16 bits each, 128 bytes a chunk; the share of equal bins estimates the Jaccard overlap
with a standard error of at most 0.0625, and with the sizes the containment. What is left out is decided on the sets
(shingles.py), or where a sketch leaves no doubt.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.readers import read_documents
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong.words import I64, U64, ngrams, word_hashes

BINS = 64
SHINGLE = 5
EMPTY = np.uint16(0xFFFF)
DOUBT = 0.15
"""What a sketch may be wrong by: texts whose estimated containment is so much below the limit are looked at."""

CLEARLY, LIKE = 0.4, 4
"""A share that sketches tell from chance, and equal bins that chance seldom makes."""

BATCH = 64
"""Texts whose shingles are made at a time."""

Sketches = npt.NDArray[np.uint16]
Sizes = npt.NDArray[np.uint32]


def shingles(hashes: U64, ends: I64) -> tuple[U64, I64]:
    """Hashes of the shingles and the number of the text of each; a shorter text is one shingle."""
    counts = np.diff(ends, prepend=0)
    parts = [ngrams(hashes, ends, SHINGLE)]
    for n in range(1, SHINGLE):
        if (counts == n).any():
            values, text = ngrams(hashes, ends, n)
            chosen = counts[text] == n
            parts.append((values[chosen], text[chosen]))
    values, text = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(text, kind="stable") if len(parts) > 1 else slice(None)
    return values[order], text[order]


def sketches(hashes: U64, ends: I64) -> Sketches:
    """Sketch of each text [texts, 64]."""
    out = np.full((len(ends), BINS), EMPTY, np.uint16)
    values, text = shingles(hashes, ends)
    places = text * BINS + (values >> np.uint64(58)).astype(np.int64)
    lowest = (values >> np.uint64(40)).astype(np.uint16)
    np.minimum.at(out.reshape(-1), places, np.minimum(lowest, EMPTY - 1))
    return out


def sizes(ends: I64) -> Sizes:
    """Shingles of each text, repeated ones counted again [texts]."""
    counts = np.diff(ends, prepend=0)
    return np.asarray(np.where(counts < SHINGLE, counts > 0, counts - SHINGLE + 1), np.uint32)


def bins(one: Sketches, many: Sketches) -> tuple[I64, I64]:
    """Bins that sketches [..., 64] and [M, 64] have equal, and those that are not empty in both -> [..., M] each."""
    either = (one != EMPTY) | (many != EMPTY)
    return ((one == many) & either).sum(-1), either.sum(-1)


def jaccard(equal: I64, either: I64) -> npt.NDArray[np.float32]:
    """Estimated Jaccard overlap; nothing overlaps with an empty text."""
    return np.asarray(equal / np.maximum(1, either), np.float32)


def overlap(one: Sketches, many: Sketches) -> npt.NDArray[np.float32]:
    """The same of sketches [..., 64] with [M, 64] -> [..., M]."""
    return jaccard(*bins(one, many))


def shared(overlaps: npt.NDArray[np.float32], one: npt.NDArray[np.uint32], many: Sizes) -> npt.NDArray[np.float64]:
    """Estimated number of shingles that two texts of these sizes share."""
    total = one.astype(np.float64) + many
    return np.asarray(overlaps * total / (1 + overlaps))


@cache
def surely(most: float) -> npt.NDArray[np.int64]:
    """Equal bins, of so many not empty in both, that texts sharing less than `most` make once in a million cases.

    [BINS + 1]. Containment below `most` is a Jaccard overlap below most / (2 - most), and each bin is equal with that
    probability: at 0.1 15 of 64 bins are enough. More than there are where nothing is sure.
    """
    from scipy.stats import binom

    return np.asarray(binom.isf(1e-6, np.arange(BINS + 1), most / (2 - most)) + 1, np.int64)


class Suspects:
    """Which chunks seem to share `most` of the smaller's shingles, CLEARLY at least, with any meta-chunk of a seed.

    What this lets pass is compared on its texts when a sample takes it: here copies are kept from filling the rankings.
    """

    def __init__(self, most: float) -> None:
        self._most, self._surely = most, surely(most)
        # 4 MB to look up in, made once: a search among sorted bins took 8 times as long
        self._known = np.zeros(BINS << 16, np.bool_)
        self._places = np.arange(BINS) << 16

    def __call__(
        self, metas: Sketches, meta_sizes: Sizes, found: Sketches, found_sizes: Sizes
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Of `found` [N, 64] beside `metas` [p, 64]; and those that surely do, whose texts nobody has to look at.

        First in how many bins each equals any meta-chunk; few have LIKE, and these are compared with each.
        """
        theirs = (self._places | metas)[metas != EMPTY]
        self._known[theirs] = True
        like = self._known[self._places | found].view(np.uint8).sum(1, dtype=np.uint8)
        self._known[theirs] = False
        rows = np.flatnonzero(like >= LIKE)
        out, sure = np.zeros(len(found), np.bool_), np.zeros(len(found), np.bool_)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            own = found_sizes[part][:, None]
            equal, either = bins(found[part][:, None], metas)
            both = shared(jaccard(equal, either), own, meta_sizes)
            close = both >= max(self._most, CLEARLY) * np.minimum(own, meta_sizes)
            out[part] = close.any(1)
            sure[part] = (close & (equal >= self._surely[either])).any(1)
        return out, sure


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
    def read(cls, files: Sequence[str], n: int, fields: Sequence[str] = ("text",)) -> "Contamination":
        """Of all texts of the files: a row's fields together, a plain file whole, as an n-gram may lie across lines."""
        try:
            texts = [each.text for each in read_documents(files, field=tuple(fields), text_mode="file", whole=True)]
        except UserError as error:
            if error.hint and error.hint.endswith("--field"):
                error.hint = "name its fields with --decontaminate-field"
            raise
        parts, short = [np.zeros(0, np.uint64)], 0
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
