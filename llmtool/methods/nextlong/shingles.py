"""The shingles of texts as sets: which chunks share too much is counted on them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from llmtool.methods.nextlong.duplicates import BATCH, shingles
from llmtool.methods.nextlong.store import LONGEST, Store
from llmtool.methods.nextlong.words import I64, U64, word_hashes

_BITS = np.uint64(64 - (BATCH.bit_length() - 1))

PAIRS = 1 << 20
"""Equal shingles of two texts that are counted at a time."""

KEPT_BYTES = 64 << 20
"""Shingles that are kept for the next seeds, some 25,000 chunks' (of LONGEST bytes one chunk's are 1 MB)."""


def common(
    values: U64, owners: I64, hashes: U64, holders: I64, shape: tuple[int, int], first: I64 | None = None
) -> npt.NDArray[np.int64]:
    """How many shingles each of the texts 0..shape[0]-1 has in common with each of 0..shape[1]-1 [shape].

    Text owners[i] has values[i], text holders[i] has hashes[i], which are sorted. PAIRS of equal ones at a time.
    first: np.searchsorted(hashes, values), where it is known.
    """
    counts = np.zeros(shape[0] * shape[1], np.int64)
    first = np.searchsorted(hashes, values) if first is None else first
    found = np.flatnonzero(hashes[np.minimum(first, len(hashes) - 1)] == values) if len(hashes) else first[:0]
    first, owners = first[found], owners[found]
    times = np.searchsorted(hashes, values[found], "right") - first
    ends = np.cumsum(times)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(0, total, PAIRS), "right").tolist()
    for a, b in pairwise([*cuts, len(ends)]):
        size = times[a:b]
        place = np.arange(int(size.sum())) + np.repeat(first[a:b] - (np.cumsum(size) - size), size)
        counts += np.bincount(np.repeat(owners[a:b], size) * shape[1] + holders[place], minlength=len(counts))
    return counts.reshape(shape)


class Kept:
    """Arrays by number; of more than `most` bytes those go that were not asked for longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._arrays: dict[int, U64] = {}
        self._bytes = 0

    def get(self, number: int) -> U64 | None:
        """The array, if it is there still."""
        array = self._arrays.pop(number, None)
        if array is not None:
            self._arrays[number] = array  # now the last to go
        return array

    def add(self, number: int, array: U64) -> None:
        """Keep one that is not there."""
        self._arrays[number] = array
        self._bytes += array.nbytes
        while self._bytes > self._most:
            self._bytes -= self._arrays.pop(next(iter(self._arrays))).nbytes


class Shingles:
    """The shingles of chunks, made when they are asked for and kept; and which chunks share `most` of the smaller's."""

    def __init__(self, store: Store, most: float = 1.0) -> None:
        self._store, self.most = store, most
        self._held: dict[int, U64] = {}
        self._kept = Kept(KEPT_BYTES)
        self._waiting: list[int] = []
        self._compared: list[int] = []
        self._sizes: list[int] = []  # of those in _compared
        self._hashes: U64 = np.zeros(0, np.uint64)
        self._owners: I64 = np.zeros(0, np.int64)  # places in _compared
        self._clashing: dict[int, set[int]] = {}

    def prepare(self, chunks: Iterable[int]) -> None:
        """Make those of many chunks together, which is ten times as fast as one by one."""
        new = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self._held]
        self._held.update((chunk, known) for chunk in new if (known := self._kept.get(chunk)) is not None)
        missing = [chunk for chunk in new if chunk not in self._held]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            values, text = shingles(*word_hashes([self._store.text(chunk)[:LONGEST] for chunk in batch]))
            # sorted and told apart in one go: 6 bits of the number of the text, 58 of the shingle
            keys = np.sort((text.astype(np.uint64) << _BITS) | (values >> np.uint64(BATCH.bit_length() - 1)))
            first = np.ones(len(keys), np.bool_)
            first[1:] = keys[1:] != keys[:-1]
            keys = keys[first]
            edges = np.searchsorted(keys >> _BITS, np.arange(len(batch) + 1)).tolist()
            keys &= (np.uint64(1) << _BITS) - np.uint64(1)
            for chunk, a, b in zip(batch, edges, edges[1:], strict=False):
                self._held[chunk] = keys[a:b].copy()
                self._kept.add(chunk, self._held[chunk])
        self._waiting += new

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._held

    def __getitem__(self, chunk: int) -> U64:
        """Of one chunk, each once and sorted."""
        if chunk not in self._held:
            self.prepare([chunk])
        return self._held[chunk]

    def _gathered(self, chunks: Sequence[int]) -> tuple[I64, U64, I64]:
        """Of several chunks: how many each has; all of them, and the place in `chunks` of each one's owner."""
        sizes = np.array([len(self._held[chunk]) for chunk in chunks], np.int64)
        return sizes, np.concatenate([self._held[chunk] for chunk in chunks]), np.repeat(np.arange(len(chunks)), sizes)

    def close(self, chunks: Sequence[int], others: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Whether each chunk shares too much with any of the others [chunks]."""
        self.prepare([*chunks, *others])
        sizes, values, owners = self._gathered(chunks)
        theirs, hashes, holders = self._gathered(others)
        order = np.argsort(hashes, kind="stable")
        counts = common(values, owners, hashes[order], holders[order], (len(chunks), len(others)))
        out = np.zeros(len(chunks), np.bool_)
        out[self._too_much(counts, sizes, theirs)[0]] = True
        return out

    def _too_much(self, counts: I64, sizes: I64, theirs: I64) -> tuple[I64, I64]:
        """Which of the counts [N, M] are so much of the smaller text: rows and columns."""
        rows, columns = counts.nonzero()
        much = counts[rows, columns] >= self.most * np.minimum(sizes[rows], theirs[columns])
        return rows[much], columns[much]

    def clashing(self, chunk: int) -> set[int]:
        """The chunks, of those that were made, that share too much with this one; itself if it has any words."""
        if chunk not in self._held:
            self.prepare([chunk])
        while self._waiting:
            self._compare(self._waiting[:BATCH])
            del self._waiting[:BATCH]
        return self._clashing.get(chunk, set())

    def _compare(self, new: list[int]) -> None:
        """Chunks with one another and with all before."""
        sizes, values, owners = self._gathered(new)
        self._clashing.update((chunk, {chunk}) for chunk, size in zip(new, sizes.tolist(), strict=True) if size)
        order = np.argsort(values, kind="stable")
        values, owners = values[order], owners[order]
        before = len(self._compared)
        places = np.searchsorted(self._hashes, values)
        counts = np.concatenate([  # apart, as each value would find itself among them all
            common(values, owners, self._hashes, self._owners, (len(new), before), places),
            common(values, owners, values, owners, (len(new), len(new))),
        ], 1)  # fmt: skip
        self._merge(places, values, owners + before)
        self._compared += new
        self._sizes += sizes.tolist()
        rows, columns = self._too_much(counts, sizes, np.array(self._sizes))
        for one, other in zip(rows.tolist(), columns.tolist(), strict=True):
            self._clashing[new[one]].add(self._compared[other])
            self._clashing[self._compared[other]].add(new[one])

    def _merge(self, places: I64, values: U64, owners: I64) -> None:
        """Put sorted values before those that stand at `places`; np.insert would look for the places twice."""
        new = places + np.arange(len(values))
        old = np.ones(len(self._hashes) + len(values), np.bool_)
        old[new] = False
        hashes, holders = np.empty(len(old), np.uint64), np.empty(len(old), np.int64)
        hashes[new], hashes[old] = values, self._hashes
        holders[new], holders[old] = owners, self._owners
        self._hashes, self._owners = hashes, holders

    def clear(self) -> None:
        """Begin anew, with another seed; those that were used last are kept, as many as may be."""
        self._held.clear()
        self._waiting.clear()
        self._compared.clear()
        self._sizes.clear()
        self._clashing.clear()
        self._hashes, self._owners = self._hashes[:0], self._owners[:0]


class Present:
    """The chunks of a sample so far, and whether another one shares too much with any of them; `most` 1 allows all."""

    def __init__(self, shingles: Shingles, chunks: Iterable[int] = ()) -> None:
        self._shingles = shingles
        self._chunks = set(chunks)
        self.prepare(sorted(self._chunks))

    def prepare(self, chunks: Sequence[int]) -> None:
        """Chunks that are likely to be asked about."""
        if self._shingles.most < 1:
            self._shingles.prepare(chunks)

    def add(self, chunk: int) -> None:
        """The chunk is in the sample."""
        self._chunks.add(chunk)
        if chunk not in self._shingles:
            self.prepare([chunk])

    def clashes(self, chunk: int) -> bool:
        """Whether the chunk shares too much with one that is there."""
        return self._shingles.most < 1 and not self._chunks.isdisjoint(self._shingles.clashing(chunk))
