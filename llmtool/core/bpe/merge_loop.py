"""The merge loop in portable Python: pair frequencies kept up to date instead of recounted.

Only the pieces that hold a merged pair are visited, and the queue is lazy: an entry counts only while its frequency
is the pair's current one. About 100 times slower than the C++ engine and 100 times faster than the definition.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

from llmtool.core.bpe.policy import Trained
from llmtool.core.bpe.reference import Pair, replace
from llmtool.core.bpe.vocabulary import BYTE_ORDER


class MergeLoop:
    """A corpus of pieces, its pair frequencies, and the queue of pairs by frequency."""

    def __init__(self, pieces: Mapping[bytes, int], max_token_bytes: int) -> None:
        self.max_token_bytes = max_token_bytes
        self.units = [bytes([byte]) for byte in BYTE_ORDER]
        self.unit_of = {unit: number for number, unit in enumerate(self.units)}
        rank = {byte: unit for unit, byte in enumerate(BYTE_ORDER)}
        self.merges: dict[Pair, int] = {}
        self._sequences = [[rank[byte] for byte in piece] for piece in sorted(pieces)]
        self._counts = [pieces[piece] for piece in sorted(pieces)]
        self.frequency: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number, (sequence, count) in enumerate(zip(self._sequences, self._counts, strict=True)):
            for pair in pairwise(sequence):
                self.frequency[pair] += count
                self._places[pair].add(number)
        self._queue = [(-count, pair) for pair, count in self.frequency.items()]
        heapify(self._queue)

    def head(self) -> tuple[int, Pair] | None:
        """(frequency, pair) of the most frequent pair, the smallest of equals."""
        while self._queue:
            entry, pair = self._queue[0]
            current = self.frequency[pair]
            if current == -entry and current:
                return current, pair
            heappop(self._queue)
            if current:
                heappush(self._queue, (-current, pair))
        return None

    def merge(self, pair: Pair) -> tuple[int, int]:
        """Replace the pair everywhere; returns the resulting unit and the number of replacements made."""
        spelling = self.units[pair[0]] + self.units[pair[1]]
        result = self.unit_of.setdefault(spelling, len(self.units))
        if result == len(self.units):
            self.units.append(spelling)
        self.merges.setdefault(pair, result)
        made = 0
        change: Counter[Pair] = Counter()
        for number in self._places.pop(pair):
            count, old = self._counts[number], self._sequences[number]
            new = replace(old, pair, result)
            made += count * (len(old) - len(new))
            for before in pairwise(old):
                change[before] -= count
            for after in pairwise(new):
                change[after] += count
                self._places[after].add(number)
            self._sequences[number] = new
        for changed, difference in change.items():
            self.frequency[changed] += difference
            if difference > 0 and sum(len(self.units[unit]) for unit in changed) <= self.max_token_bytes:
                heappush(self._queue, (-self.frequency[changed], changed))
        return result, made


class BPE:
    """Plain byte-pair encoding as a training policy."""

    native = "bpe"

    def train(
        self,
        pieces: Mapping[bytes, int],
        vocab_size: int,
        min_frequency: int,
        max_token_bytes: int,
        progress: Callable[[int], None],
    ) -> Trained:
        """Merge the most frequent pair until `vocab_size` units exist."""
        loop = MergeLoop(pieces, max_token_bytes)
        while len(loop.units) < vocab_size:
            first = loop.head()
            if first is None or first[0] < max(1, min_frequency):
                break
            loop.merge(first[1])
            progress(len(loop.units))
        return Trained([(left, right, result) for (left, right), result in loop.merges.items()])

    def parts(self, trained: Trained) -> dict[int, list[int]]:
        """Every unit is a token."""
        return {}
