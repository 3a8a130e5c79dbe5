"""What a method adds to the engine: a way to train a vocabulary, or a way to cut text with one.

A method's class is named in the catalog and handed to the core from above; the core never asks which method it is.
`native` names the policy inside the C++ engine that does the same faster; the tests hold the two together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.vocabulary import BYTE_ORDER
from llmtool.core.run.dataclass import dataclass

PieceCutter = Callable[[bytes], list[int]]
"""The units that one piece is cut into."""


Allows = Callable[[bytes], bool]
"""Whether a token of that spelling may be made: asked of each pair when it comes to the head of the queue."""


def anything(_: bytes) -> bool:
    """No token is refused."""
    return True


@dataclass(frozen=True)
class Start:
    """What training goes on from.

    units: the bytes of each unit there is. sequences: (units, count) of each distinct piece, or part of one that no
    pair may leave.
    """

    units: Sequence[bytes]
    sequences: Sequence[tuple[list[int], int]]

    @classmethod
    def of_bytes(cls, pieces: Mapping[bytes, int]) -> "Start":
        """Training from nothing: the 256 bytes."""
        rank = {byte: unit for unit, byte in enumerate(BYTE_ORDER)}
        sequences = [([rank[byte] for byte in piece], count) for piece, count in sorted(pieces.items())]
        return cls([bytes([byte]) for byte in BYTE_ORDER], sequences)


@dataclass(frozen=True)
class Trained:
    """What training made. New units follow those of its start (the bytes in BYTE_ORDER) in the order of their making.

    merges: (left, right, result) in rank order. scaffolds: units that ended without an id. frequencies: of the pair of
    each merge, when it was made.
    """

    merges: list[tuple[int, int, int]]
    scaffolds: set[int] = field(default_factory=set)
    marks: int = 0
    promotions: int = 0
    frequencies: list[int] = field(default_factory=list, compare=False)


class TrainingPolicy(Protocol):
    """A training algorithm (catalog kind "tokenizer training").

    makes_scaffolds: whether a unit that it makes may end without an id.
    """

    native: str
    makes_scaffolds: bool

    def extend(
        self,
        start: Start,
        vocab_size: int,
        min_frequency: int,
        max_token_bytes: int,
        progress: Callable[[int], None],
        allows: Allows = anything,
    ) -> Trained:
        """Portable training from the units of `start`, which all stay; `vocab_size` counts normal units, these
        included; no token gets longer than `max_token_bytes`."""
        ...

    def parts(self, trained: Trained) -> dict[int, list[int]]:
        """For each scaffold unit the normal units that take its place."""
        ...


class EncodingPolicy(Protocol):
    """A way to cut a piece into tokens (catalog kind "tokenizer encoding").

    needs_merges: whether it goes by merges, or by the tokens' texts alone.
    """

    native: str
    needs_merges: bool

    def cutter(self, definition: Definition) -> PieceCutter:
        """What cuts a piece into units, portable."""
        ...

    def order(self, definition: Definition) -> list[int] | None:
        """Priority of each unit for the engine, the lowest first; None for its default."""
        ...

    def units(self, definition: Definition) -> list[int]:
        """The units this encoder may produce."""
        ...

    def to_huggingface(self, definition: Definition) -> dict[str, Any]:
        """The `pre_tokenizer` and `model` of a tokenizer.json that gives the same ids, exactly, or a UserError.

        With the key `remote_code`, whose value is a class of tokenization_llmtool.py, where stock components need help.
        """
        ...
