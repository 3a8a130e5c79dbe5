"""Scaffold-BPE training, portable: Algorithm 1 over the merge loop with a lazy queue of scaffold tokens.

The C++ engine's policy_scaffold.hpp does the same; reference.py defines it.
"""

from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from llmtool.core.bpe.merge_loop import MergeLoop
from llmtool.core.bpe.policy import Allows, Start, Trained, anything
from llmtool.core.bpe.reference import Pair
from llmtool.methods.scaffold_bpe.reference import demolish, formed_by


class ScaffoldQueue:
    """Marked units by remaining frequency f; an entry is valid while its unit is marked and its frequency is f."""

    def __init__(self, formed: Mapping[int, Pair]) -> None:
        self.marked: set[int] = set()
        self._formed = formed
        self._queue: list[tuple[int, Pair, int]] = []

    def push(self, unit: int, frequency: int) -> None:
        """Mark the unit, or give a marked unit its new frequency."""
        self.marked.add(unit)
        heappush(self._queue, (-frequency, self._formed[unit], unit))

    def head(self, frequency: Mapping[int, int]) -> tuple[int, int] | None:
        """(frequency, unit) of the most frequent marked unit."""
        while self._queue:
            entry, _, unit = self._queue[0]
            if unit in self.marked and frequency[unit] == -entry:
                return -entry, unit
            heappop(self._queue)
        return None


class ScaffoldBPE:
    """Training policy: a unit that becomes rarer than the head of the queue stops counting toward the vocabulary."""

    native = "scaffold"
    makes_scaffolds = True

    def extend(
        self,
        start: Start,
        vocab_size: int,
        min_frequency: int,
        max_token_bytes: int,
        progress: Callable[[int], None],
        allows: Allows = anything,
    ) -> Trained:
        """Algorithm 1 until |V| = vocab_size; the units of `start` all stay what they are."""
        loop = MergeLoop(start, max_token_bytes, allows)
        formed: dict[int, Pair] = {}
        queue = ScaffoldQueue(formed)
        frequency: dict[int, int] = dict.fromkeys(range(len(start.units)), 0)
        for sequence, count in start.sequences:
            for unit in sequence:
                frequency[unit] += count
        marks = promotions = 0
        while len(loop.units) - len(queue.marked) < vocab_size:
            pair_head, token_head = loop.head(), queue.head(frequency)
            first = max((pair_head or (0,))[0], (token_head or (0,))[0])
            if first < max(1, min_frequency):
                break
            if pair_head is None or (token_head is not None and token_head[0] > pair_head[0]):
                assert token_head is not None
                queue.marked.remove(token_head[1])
                promotions += 1
                continue
            pair = pair_head[1]
            result, made = loop.merge(pair)
            formed.setdefault(result, pair)
            if result in queue.marked:
                queue.marked.remove(result)
                promotions += 1
            frequency[result] = frequency.get(result, 0) + made
            for component in pair:
                frequency[component] -= made
            for component in set(pair) & queue.marked:
                queue.push(component, frequency[component])
            for component in dict.fromkeys(pair):
                head = max((entry[0] for entry in (loop.head(), queue.head(frequency)) if entry), default=0)
                if component >= len(start.units) and component not in queue.marked and frequency[component] < head:
                    queue.push(component, frequency[component])
                    marks += 1
            progress(len(loop.units) - len(queue.marked))
        merges = [(left, right, result) for (left, right), result in loop.merges.items()]
        return Trained(merges, set(queue.marked), marks, promotions, loop.made_at)

    def parts(self, trained: Trained) -> dict[int, list[int]]:
        """Algorithm 2's demolishing, done once for each scaffold unit."""
        pairs = formed_by(trained.merges)
        return {unit: demolish(unit, trained.scaffolds, pairs) for unit in sorted(trained.scaffolds)}
