"""Byte-pair encoding by definition (Sennrich et al. 2016), recounted from scratch at every step.

Slow and literal: the fast versions must agree with it. Decided where the paper is silent, as in the `tokenizers`
package: the frequency of a pair is its number of adjacent positions ("aaa" holds (a, a) twice) weighted by the counts
of the pieces; a tie goes to the smaller (left, right); bytes are numbered by their GPT-2 characters; a pair that
spells an existing unit makes that unit again and has a rank of its own. A pair that together is longer than
max_token_bytes is never merged (`tokenizers` calls it max_token_length).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmtool.core.bpe.policy import Allows, Start, anything
from llmtool.core.bpe.settings import MAX_TOKEN_BYTES

Pair = tuple[int, int]


class Corpus:
    """Pieces as sequences of units, with the units' bytes."""

    def __init__(
        self,
        pieces: Mapping[bytes, int] | Start,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        allows: Allows = anything,
    ) -> None:
        start = pieces if isinstance(pieces, Start) else Start.of_bytes(pieces)
        self.max_token_bytes = max_token_bytes
        self.allows = allows
        self.first = len(start.units)
        self.units = list(start.units)
        self.sequences = list(start.sequences)

    def pair_frequencies(self) -> Counter[Pair]:
        """Frequency of every adjacent pair that may be merged."""
        frequencies: Counter[Pair] = Counter()
        for sequence, count in self.sequences:
            for pair in pairwise(sequence):
                spelling = self.units[pair[0]] + self.units[pair[1]]
                if len(spelling) <= self.max_token_bytes and self.allows(spelling):
                    frequencies[pair] += count
        return frequencies

    def unit_frequencies(self) -> Counter[int]:
        """Occurrences of every unit."""
        frequencies: Counter[int] = Counter()
        for sequence, count in self.sequences:
            for unit in sequence:
                frequencies[unit] += count
        return frequencies

    def merge(self, pair: Pair) -> int:
        """Replace the pair everywhere, left to right; returns the resulting unit."""
        spelling = self.units[pair[0]] + self.units[pair[1]]
        if spelling not in self.units:
            self.units.append(spelling)
        result = self.units.index(spelling)
        self.sequences = [(replace(sequence, pair, result), count) for sequence, count in self.sequences]
        return result


def replace(sequence: Sequence[int], pair: Pair, result: int) -> list[int]:
    """The sequence with each non-overlapping occurrence of the pair, left to right, replaced."""
    out: list[int] = []
    position = 0
    while position < len(sequence):
        if tuple(sequence[position : position + 2]) == pair:
            out.append(result)
            position += 2
        else:
            out.append(sequence[position])
            position += 1
    return out


def head(frequencies: Mapping[Pair, int]) -> Pair | None:
    """The most frequent pair, the smallest of equals."""
    return min(frequencies, key=lambda pair: (-frequencies[pair], pair), default=None)


def train(
    pieces: Mapping[bytes, int] | Start,
    vocab_size: int,
    min_frequency: int = 0,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    allows: Allows = anything,
) -> list[tuple[int, int, int]]:
    """Merges (left, right, result) until `vocab_size` units exist, those of the start (the 256 bytes) included."""
    corpus = Corpus(pieces, max_token_bytes, allows)
    merges: dict[Pair, int] = {}
    while len(corpus.units) < vocab_size:
        frequencies = corpus.pair_frequencies()
        pair = head(frequencies)
        if pair is None or frequencies[pair] < max(1, min_frequency):
            break
        result = corpus.merge(pair)
        merges.setdefault(pair, result)
    return [(left, right, result) for (left, right), result in merges.items()]


def encode_piece(piece: Sequence[int], merges: Sequence[tuple[int, int, int]]) -> list[int]:
    """Units of a piece: apply the merge of lowest rank at its leftmost place, one at a time, until none applies."""
    rank = {(left, right): (number, result) for number, (left, right, result) in enumerate(merges)}
    units = list(piece)
    while True:
        places = [(rank[pair], at) for at, pair in enumerate(pairwise(units)) if pair in rank]
        if not places:
            return units
        (_, result), at = min(places)
        units[at : at + 2] = [result]
