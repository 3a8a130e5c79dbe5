"""The vocabulary of a byte-level BPE: units, the merges that make them, and the ids they are written as.

A *unit* is a byte string the merge loop works with; a *token* is a unit with a public id. In plain BPE the two
are the same. Where a training method keeps units that only help to build others (Scaffold-BPE), such a unit has
no id and is written as the ids of its parts: `emit[unit]` holds more than one id. The encoder needs to know no more.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from llmtool.core.run.errors import UserError


def _byte_to_unicode() -> dict[int, str]:
    """GPT-2's reversible map from bytes to printable characters (Radford et al. 2019)."""
    printable: list[int] = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = [byte for byte in range(256) if byte not in printable]
    characters = [*map(chr, printable), *map(chr, range(256, 256 + len(spare)))]
    return dict(zip(printable + spare, characters, strict=True))


LARGEST_ID = (1 << 24) - 1
"""An embedding of more rows is nobody's; what reads an id may allocate for all below it."""

BYTE_TO_UNICODE = _byte_to_unicode()
UNICODE_TO_BYTE = {character: byte for byte, character in BYTE_TO_UNICODE.items()}
BYTE_ORDER = bytes([byte for byte, _ in sorted(BYTE_TO_UNICODE.items(), key=lambda item: item[1])])
"""Bytes in the order of their GPT-2 characters: the first 256 units, and what breaks ties in training."""


def token_to_string(token: bytes) -> str:
    """The printable spelling of a token in files (GPT-2's)."""
    return "".join([BYTE_TO_UNICODE[byte] for byte in token])


def string_to_token(text: str) -> bytes:
    """Inverse of token_to_string; KeyError on a character outside GPT-2's 256."""
    return bytes([UNICODE_TO_BYTE[character] for character in text])


def strings_to_tokens(texts: Sequence[str]) -> list[bytes]:
    """string_to_token of each, all in one pass: 5 ms for 32K tokens instead of 60; KeyError as there."""
    together = "".join(texts)
    if unknown := set(together) - set(UNICODE_TO_BYTE):
        raise KeyError(min(unknown))
    table = {ord(character): byte for character, byte in UNICODE_TO_BYTE.items()}
    spelled = together.translate(table).encode("latin-1")
    ends = list(accumulate(map(len, texts)))
    return [spelled[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def encode_text(text: str) -> bytes:
    """The bytes of a string, for any string.

    UTF-8, where U+DC80..U+DCFF stand for the raw bytes 0x80..0xFF (PEP 383, "surrogateescape") and any other lone
    surrogate for its three WTF-8 bytes. `decode_text` undoes the first rule, so bytes always survive a round trip.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b"".join(
            character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
            for character in text
        )


def decode_text(data: bytes) -> str:
    """The string of any bytes: a byte that belongs to no well-formed UTF-8 sequence becomes U+DC80..U+DCFF."""
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Vocabulary:
    """Units, merges in rank order, and what each unit is written as.

    units: distinct byte strings; every single byte is among them.
    merges: (left unit, right unit, resulting unit) in rank order; the result's bytes are the concatenation.
    emit: for each unit the ids it is written as; one id for a token.
    special: special token text -> id; never the result of a merge.
    """

    units: Sequence[bytes]
    merges: Sequence[tuple[int, int, int]]
    emit: Sequence[tuple[int, ...]]
    special: dict[str, int] = field(default_factory=dict)

    @cached_property
    def unit_of(self) -> dict[bytes, int]:
        """Unit number of each byte string."""
        return dict(zip(self.units, range(len(self.units)), strict=True))

    @cached_property
    def tokens(self) -> dict[int, bytes]:
        """Bytes of each id, special tokens included."""
        table = {ids[0]: unit for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}
        table.update({number: encode_text(text) for text, number in self.special.items()})
        return table

    @cached_property
    def id_of(self) -> dict[bytes, int]:
        """Id of each token that text can be cut into (no special tokens)."""
        return {unit: ids[0] for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}

    @cached_property
    def scaffolds(self) -> list[int]:
        """Units without an id of their own, in the order of their making."""
        return [unit for unit, ids in enumerate(self.emit) if len(ids) > 1]

    @property
    def size(self) -> int:
        """Number of ids: tokens and special tokens."""
        return len(self.tokens)

    @property
    def id_limit(self) -> int:
        """One more than the largest id: the rows an embedding needs."""
        return max(self.tokens) + 1

    def check(self, where: str) -> None:
        """Refuse a vocabulary that cannot encode every text, or whose ids contradict each other.

        That a merge's result is spelled by its parts is left to the readers, which find the result by that spelling.
        """
        if len(self.unit_of) != len(self.units):
            raise UserError("two units spell the same bytes", where=where)
        missing = [byte for byte in range(256) if bytes([byte]) not in self.unit_of]
        if missing:
            raise UserError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes (first: 0x{missing[0]:02x})",
                where=where,
                hint="only byte-level vocabularies that cover every byte can be read",
            )
        text_ids = [ids[0] for ids in self.emit if len(ids) == 1]
        every_id = [*text_ids, *self.special.values()]
        if len(set(every_id)) != len(every_id) or min(every_id) < 0:
            raise UserError("two tokens share an id, or an id is negative", where=where)
        if max(every_id) > LARGEST_ID:
            raise UserError(f"id {max(every_id)} is too large", where=where, hint=f"at most {LARGEST_ID}")
        if b"" in self.unit_of or "" in self.special:
            raise UserError("a token is empty", where=where)
        pairs = Counter((left, right) for left, right, _ in self.merges)
        if len(pairs) != len(self.merges):
            left, right = pairs.most_common(1)[0][0]
            spelled = f"{token_to_string(self.units[left])} {token_to_string(self.units[right])}"
            raise UserError(f"the merge {spelled!r} is listed twice", where=where)
        tokens = self.tokens
        for number in [number for number, ids in enumerate(self.emit) if len(ids) != 1]:
            if b"".join(tokens.get(i, b"") for i in self.emit[number]) != self.units[number]:
                raise UserError(
                    f"scaffold {token_to_string(self.units[number])!r} is not spelled by its parts", where=where
                )


def pack_u32(values: Iterable[int]) -> bytes:
    """Numbers as the engine takes them: native 32-bit words."""
    from array import array

    return array("I", values).tobytes()


def pack_ends(lengths: Iterable[int]) -> bytes:
    """Running sum of lengths as native 64-bit words: the engine's offsets."""
    from array import array

    return array("Q", accumulate(lengths)).tobytes()
