"""Texts that share word sequences: sketches that find them, sets that decide; and evaluation files.

What counts is containment, the share of the smaller text's shingles (5 words in a row) that the other has too: a copy
with shifted borders, or a paragraph inside a longer chunk, has a small Jaccard overlap. A sketch is one-permutation
MinHash of the shingles: 64 bins, 16 bits each, 128 bytes a chunk; the share of equal bins estimates the Jaccard overlap
with a standard error of at most 0.0625, and with the sizes the containment. What is left out is decided on the sets.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.readers import read_documents
from llmtool.methods.nextlong.store import LONGEST, Store
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


def overlap(one: Sketches, many: Sketches) -> npt.NDArray[np.float32]:
    """Estimated Jaccard overlap of sketches [..., 64] with [M, 64] -> [..., M]; nothing overlaps with an empty text."""
    either = (one != EMPTY) | (many != EMPTY)
    equal = (one == many) & (one != EMPTY)
    return np.asarray(equal.sum(-1) / np.maximum(1, either.sum(-1)), np.float32)


def shared(jaccard: npt.NDArray[np.float32], one: npt.NDArray[np.uint32], many: Sizes) -> npt.NDArray[np.float64]:
    """Estimated number of shingles that two texts of these sizes share."""
    total = one.astype(np.float64) + many
    return np.asarray(jaccard * total / (1 + jaccard))


def suspects(
    metas: Sketches, meta_sizes: Sizes, found: Sketches, found_sizes: Sizes, most: float
) -> npt.NDArray[np.bool_]:
    """Which of `found` [N, 64] seem to share `most` of the smaller, CLEARLY at least, with any of `metas` [p, 64].

    First in how many bins each equals any meta-chunk; few have LIKE, and these are compared with each. What this lets
    pass is compared on its texts when a sample takes it: here copies are kept from filling the rankings.
    """
    places = np.arange(BINS)
    known = np.zeros((BINS, 1 << 16), np.bool_)  # 4 MB to look up in: a search among sorted bins took 8 times as long
    known[np.broadcast_to(places, metas.shape), metas] = True
    known[:, EMPTY] = False
    rows = np.flatnonzero(known[places, found].sum(1) >= LIKE)
    out = np.zeros(len(found), np.bool_)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        own = found_sizes[part][:, None]
        both = shared(overlap(found[part][:, None], metas), own, meta_sizes)
        out[part] = (both >= max(most, CLEARLY) * np.minimum(own, meta_sizes)).any(1)
    return out


class Shingles:
    """The shingles of chunks, made when they are asked for and kept; and which chunks share `most` of the smaller's."""

    def __init__(self, store: Store, most: float = 1.0) -> None:
        self._store, self.most = store, most
        self._held: dict[int, U64] = {}
        self._waiting: list[int] = []
        self._hashes: U64 = np.zeros(0, np.uint64)
        self._owners: I64 = np.zeros(0, np.int64)
        self._clashing: dict[int, set[int]] = {}

    def prepare(self, chunks: Iterable[int]) -> None:
        """Make those of many chunks together, which is ten times as fast as one by one."""
        missing = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self._held]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            values, text = shingles(*word_hashes([self._store.text(chunk)[:LONGEST] for chunk in batch]))
            order = np.lexsort((values, text))
            values, text = values[order], text[order]
            first = np.ones(len(values), np.bool_)
            first[1:] = (values[1:] != values[:-1]) | (text[1:] != text[:-1])
            values, text = values[first], text[first]
            edges = np.searchsorted(text, np.arange(len(batch) + 1)).tolist()
            for chunk, a, b in zip(batch, edges, edges[1:], strict=False):
                self._held[chunk] = values[a:b]
        self._waiting += missing

    def __getitem__(self, chunk: int) -> U64:
        """Of one chunk, each once and sorted."""
        if chunk not in self._held:
            self.prepare([chunk])
        return self._held[chunk]

    def close(self, chunks: Sequence[int], others: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Whether each chunk shares too much with any of the others [chunks]."""
        from scipy.sparse import csr_array

        both = [*chunks, *others]
        self.prepare(both)
        sizes = np.array([len(self._held[chunk]) for chunk in both])
        values, column = np.unique(np.concatenate([self._held[chunk] for chunk in both]), return_inverse=True)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        found = csr_array((np.ones(len(column), np.int32), column, ends), shape=(len(both), len(values)))
        counts = (found[: len(chunks)] @ found[len(chunks) :].T).toarray()
        least = self.most * np.minimum(sizes[: len(chunks), None], sizes[len(chunks) :])
        return np.asarray(((counts > 0) & (counts >= least)).any(1))

    def clashing(self, chunk: int) -> set[int]:
        """The chunks, of those that were made, that share too much with this one; itself if it has any words."""
        self.prepare([chunk])
        if self._waiting:
            self._compare()
        return self._clashing.get(chunk, set())

    def _compare(self) -> None:
        """Those that wait with one another and with all before: only shingles of two chunks or more are looked at."""
        from scipy.sparse import csr_array

        new = self._waiting.copy()
        self._waiting.clear()
        sizes = [len(self._held[chunk]) for chunk in new]
        values, owners = np.concatenate([self._held[chunk] for chunk in new]), np.repeat(new, sizes)
        self._clashing.update((chunk, {chunk}) for chunk, size in zip(new, sizes, strict=True) if size)
        order = np.argsort(values, kind="stable")
        places = np.searchsorted(self._hashes, values[order])
        self._hashes = np.insert(self._hashes, places, values[order])
        self._owners = np.insert(self._owners, places, owners[order])
        follows = np.zeros(len(self._hashes) + 1, np.bool_)
        follows[1:-1] = self._hashes[1:] == self._hashes[:-1]
        common = follows[:-1] | follows[1:]
        if not common.any():
            return
        column = np.cumsum(~follows[:-1][common]) - 1
        chunks, row = np.unique(self._owners[common], return_inverse=True)
        shape = (len(chunks), int(column[-1]) + 1)
        found = csr_array((np.ones(len(row), np.int32), (row, column)), shape=shape)
        fresh = np.flatnonzero(np.isin(chunks, new))
        counts = (found[fresh] @ found.T).tocoo()
        size = np.array([len(self._held[chunk]) for chunk in chunks.tolist()])
        one, other = fresh[counts.row], counts.col
        close = (counts.data >= self.most * np.minimum(size[one], size[other])) & (one != other)
        for first, second in zip(chunks[one[close]].tolist(), chunks[other[close]].tolist(), strict=True):
            self._clashing[first].add(second)
            self._clashing[second].add(first)

    def clear(self) -> None:
        """Forget them."""
        self._held.clear()
        self._waiting.clear()
        self._clashing.clear()
        self._hashes, self._owners = self._hashes[:0], self._owners[:0]


class Present:
    """The chunks of a sample so far, and whether another one shares too much with any of them; `most` 1 allows all."""

    def __init__(self, shingles: Shingles, chunks: Iterable[int] = ()) -> None:
        self._shingles = shingles
        self._chunks: set[int] = set()
        for chunk in chunks:
            self.add(chunk)

    def prepare(self, chunks: Sequence[int]) -> None:
        """Chunks that are likely to be asked about."""
        if self._shingles.most < 1:
            self._shingles.prepare(chunks)

    def add(self, chunk: int) -> None:
        """The chunk is in the sample."""
        self._chunks.add(chunk)
        self.prepare([chunk])

    def clashes(self, chunk: int) -> bool:
        """Whether the chunk shares too much with one that is there."""
        return self._shingles.most < 1 and not self._chunks.isdisjoint(self._shingles.clashing(chunk))


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
        documents = read_documents(files, field=tuple(fields), text_mode="file", whole=True)
        texts = [document.text for document in documents]
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
