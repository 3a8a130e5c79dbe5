"""The merge loop in portable Python: pair frequencies kept up to date instead of recounted.

Only the pieces that hold a merged pair are visited, and the queue is lazy: an entry counts only while its frequency
is the pair's current one. About 100 times slower than the C++ engine and 100 times faster than the definition.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import pairwise

from llmtool.core.bpe.policy import Allows, Start, Trained, anything
from llmtool.core.bpe.reference import Pair, replace


class MergeLoop:
    """A corpus of pieces, its pair frequencies, and the queue of pairs by frequency."""

    def __init__(self, start: Start, max_token_bytes: int, allows: Allows = anything) -> None:
        self.max_token_bytes = max_token_bytes
        self.units = list(start.units)
        self.unit_of = {unit: number for number, unit in enumerate(self.units)}
        self.merges: dict[Pair, int] = {}
        self.made_at: list[int] = []
        self._allows = allows
        self._sequences = [sequence for sequence, _ in start.sequences]
        self._counts = [count for _, count in start.sequences]
        self.frequency: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number, (sequence, count) in enumerate(zip(self._sequences, self._counts, strict=True)):
            for pair in pairwise(sequence):
                self.frequency[pair] += count
                self._places[pair].add(number)
        self._queue = [(-count, pair) for pair, count in self.frequency.items() if self._fits(pair)]
        heapify(self._queue)

    def head(self) -> tuple[int, Pair] | None:
        """(frequency, pair) of the most frequent pair, the smallest of equals."""
        while self._queue:
            entry, pair = self._queue[0]
            current = self.frequency[pair]
            if current == -entry and current and self._allowed(pair):
                return current, pair
            heappop(self._queue)
            if current and current != -entry:
                heappush(self._queue, (-current, pair))
        return None

    def _fits(self, pair: Pair) -> bool:
        return len(self.units[pair[0]]) + len(self.units[pair[1]]) <= self.max_token_bytes

    def _allowed(self, pair: Pair) -> bool:
        return self._allows is anything or self._allows(self.units[pair[0]] + self.units[pair[1]])

    def merge(self, pair: Pair) -> tuple[int, int]:
        """Replace the pair everywhere; returns the resulting unit and the number of replacements made."""
        spelling = self.units[pair[0]] + self.units[pair[1]]
        result = self.unit_of.setdefault(spelling, len(self.units))
        if result == len(self.units):
            self.units.append(spelling)
        if pair not in self.merges:
            self.merges[pair] = result
            self.made_at.append(self.frequency[pair])
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
            if difference > 0 and self._fits(changed):
                heappush(self._queue, (-self.frequency[changed], changed))
        return result, made


class BPE:
    """Plain byte-pair encoding as a training policy."""

    native = "bpe"
    makes_scaffolds = False

    def extend(
        self,
        start: Start,
        vocab_size: int,
        min_frequency: int,
        max_token_bytes: int,
        progress: Callable[[int], None],
        allows: Allows = anything,
    ) -> Trained:
        """Merge the most frequent pair until `vocab_size` units exist."""
        loop = MergeLoop(start, max_token_bytes, allows)
        while len(loop.units) < vocab_size:
            first = loop.head()
            if first is None or first[0] < max(1, min_frequency):
                break
            loop.merge(first[1])
            progress(len(loop.units))
        merges = [(left, right, result) for (left, right), result in loop.merges.items()]
        return Trained(merges, frequencies=loop.made_at)

    def parts(self, trained: Trained) -> dict[int, list[int]]:
        """Every unit is a token."""
        return {}
