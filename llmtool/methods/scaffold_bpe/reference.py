"""Scaffold-BPE by definition: Algorithms 1 and 2 of Lian et al. (AAAI 2025, arXiv 2404.17808).

Slow and literal: everything is recounted at every step. `E` is the expanded vocabulary V + S; only V counts toward N.
What the paper leaves open is decided in docs/methods/scaffold_bpe.md; each decision is marked (D) here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmtool.core.bpe.policy import Allows, Start, anything
from llmtool.core.bpe.reference import Corpus, Pair
from llmtool.core.bpe.settings import MAX_TOKEN_BYTES


@dataclass
class Scaffolding:
    """The state of Algorithm 1."""

    corpus: Corpus
    merges: dict[Pair, int] = field(default_factory=dict)
    scaffolds: set[int] = field(default_factory=set)
    formed_by: dict[int, Pair] = field(default_factory=dict)
    marks: int = 0
    promotions: int = 0

    @property
    def normal(self) -> int:
        """|V|, the bytes included."""
        return len(self.corpus.units) - len(self.scaffolds)

    def head(self) -> tuple[int, Pair | int] | None:
        """(frequency, pair or scaffold token) at the head of Q.

        (D) A tie goes to the pair; among pairs to the smaller; among scaffolds to the smaller pair that formed them.
        """
        frequency = self.corpus.unit_frequencies()
        pairs = [(-count, 0, pair, pair) for pair, count in self.corpus.pair_frequencies().items()]
        tokens = [(-frequency[unit], 1, self.formed_by[unit], unit) for unit in self.scaffolds]
        entries: list[tuple[int, int, Pair, Pair | int]] = [*pairs, *tokens]
        if not entries:
            return None
        first = min(entries, key=lambda entry: entry[:3])
        return -first[0], first[3]


def train(
    pieces: Mapping[bytes, int] | Start,
    vocab_size: int,
    min_frequency: int = 0,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    allows: Allows = anything,
) -> Scaffolding:
    """Algorithm 1: train until |V| = vocab_size, the 256 bytes (pinned, never scaffold) included.

    (D) From a tokenizer on, its units are pinned as the bytes are: they have ids already, or none for good.
    """
    state = Scaffolding(Corpus(pieces, max_token_bytes, allows))
    while state.normal < vocab_size:
        first = state.head()
        if first is None or first[0] < max(1, min_frequency):  # (D) Q is empty: report the size reached
            break
        entry = first[1]
        if isinstance(entry, int):  # step 2: a scaffold token is popped and becomes normal again
            state.scaffolds.remove(entry)
            state.promotions += 1
            continue
        result = state.corpus.merge(entry)  # step 3
        state.merges.setdefault(entry, result)
        state.formed_by.setdefault(result, entry)
        if result in state.scaffolds:  # (D) a pair that spells a scaffold token: promote it, and merge
            state.scaffolds.remove(result)
            state.promotions += 1
        mark_components(state, entry)
    return state


def mark_components(state: Scaffolding, pair: Pair) -> None:
    """Step 4: f(t') -= f(t), and t' becomes scaffold if it is now rarer than the head of Q.

    (D) f(t) is the number of replacements made, twice that where both parts are t'; so f(t') is always what remains
    of t' in the corpus. Both parts are decremented and Q is updated before its head is read.
    """
    frequency = state.corpus.unit_frequencies()
    for component in dict.fromkeys(pair):
        first = state.head()
        pinned = component < state.corpus.first
        if not pinned and component not in state.scaffolds and first and frequency[component] < first[0]:
            state.scaffolds.add(component)
            state.marks += 1


def demolish(unit: int, scaffolds: set[int], formed_by: Mapping[int, Pair]) -> list[int]:
    """Algorithm 2, demolishing: a scaffold token is the recursion over the pair that formed it."""
    if unit not in scaffolds:
        return [unit]
    left, right = formed_by[unit]
    return demolish(left, scaffolds, formed_by) + demolish(right, scaffolds, formed_by)


def formed_by(merges: Sequence[tuple[int, int, int]]) -> dict[int, Pair]:
    """The pair that first formed each unit."""
    pairs: dict[int, Pair] = {}
    for left, right, result in merges:
        pairs.setdefault(result, (left, right))
    return pairs
