"""The vocabulary of a BPE: units, the merges that make them, and the ids they are written as.

A *unit* is a byte string the merge loop works with; a *token* is a unit with a public id. In plain BPE the two
are the same. Where a training method keeps units that only help to build others (Scaffold-BPE), such a unit has
no id and is written as the ids of its parts: `emit[unit]` holds more than one id. The encoder needs to know no more.

The *symbols* of a text, which the merge loop starts from, are its bytes or its characters, by the vocabulary's
alphabet. A symbol that is no unit (vocabularies read from files may lack some) is written as `unknown` says.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from itertools import accumulate
from typing import Literal

from llmtool.core.bpe.added_tokens import AddedToken
from llmtool.core.bpe.packed import PackedBytes, PackedIds
from llmtool.core.run.dataclass import dataclass
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


LONGEST_PIECE = 1 << 20
"""Bytes; training counts a longer piece in parts (native/count.hpp): at most one pair in a million is not seen."""


def part_end(text: bytes, place: int) -> int:
    """`place`, or up to three bytes before it: in front of a character, where `text` is UTF-8."""
    for _ in range(3):
        if text[place] & 0xC0 != 0x80:
            break
        place -= 1
    return place


def piece_parts(piece: bytes) -> Iterator[bytes]:
    """A piece in parts of about LONGEST_PIECE bytes."""
    start = 0
    while len(piece) - start > LONGEST_PIECE:
        end = part_end(piece, start + LONGEST_PIECE)
        yield piece[start:end]
        start = end
    yield piece[start:]


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


Alphabet = Literal["bytes", "characters"]


@dataclass(frozen=True)
class Unknown:
    """What a symbol that is no unit is written as; merges stop at it.

    byte_ids: id of each byte that has a token of its own (`<0x0A>`); used where all bytes of the symbol have one.
    Else `token`, whose id is `id`; where there is none the symbol is dropped. fuse: neighbours become one.
    """

    token: str | None = None
    id: int | None = None
    fuse: bool = False
    byte_fallback: bool = False
    byte_ids: dict[int, int] = field(default_factory=dict)


def find_unknown(token: str | None, fuse: bool, byte_fallback: bool, entries: Mapping[str, int]) -> Unknown:
    """What unknown symbols become, by the ids of a vocabulary's entries."""
    spelled = {byte: f"<0x{byte:02X}>" for byte in range(256)} if byte_fallback else {}
    byte_ids = {byte: entries[text] for byte, text in spelled.items() if text in entries}
    return Unknown(token, None if token is None else entries.get(token), fuse, byte_fallback, byte_ids)


@dataclass(frozen=True)
class Vocabulary:
    """Units, merges in rank order, and what each unit is written as.

    units: distinct byte strings. merges: (left unit, right unit, resulting unit) in rank order; the result's bytes
    are the concatenation. emit: for each unit the ids it is written as; one id for a token.
    added: tokens that are matched before anything is cut. One of them may be a unit as well, with the same id.
    unused: further entries of a file, text -> id, that no text is cut into: byte tokens, empty or unspellable ones.
    """

    units: Sequence[bytes]
    merges: Sequence[tuple[int, int, int]]
    emit: Sequence[tuple[int, ...]]
    added: tuple[AddedToken, ...] = ()
    unused: dict[str, int] = field(default_factory=dict)
    unknown: Unknown = Unknown()
    alphabet: Alphabet = "bytes"

    @cached_property
    def unit_of(self) -> dict[bytes, int]:
        """Unit number of each byte string."""
        return dict(zip(self.units, range(len(self.units)), strict=True))

    @cached_property
    def added_ids(self) -> dict[str, int]:
        """Added token -> id."""
        return {token.content: token.id for token in self.added}

    @cached_property
    def special(self) -> dict[str, int]:
        """Special token -> id: the added tokens that are plain text unless they are allowed."""
        return {token.content: token.id for token in self.added if token.special}

    @cached_property
    def spellings(self) -> dict[int, str]:
        """Text of each id as files spell it: GPT-2's characters in an alphabet of bytes."""
        spell = token_to_string if self.alphabet == "bytes" else decode_text
        table = {ids[0]: spell(unit) for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}
        table.update({number: text for text, number in self.unused.items()})
        table.update({number: text for text, number in self.added_ids.items()})
        return table

    @cached_property
    def tokens(self) -> dict[int, bytes]:
        """Bytes of each id: a unit's own, any other entry's UTF-8."""
        table = {ids[0]: unit for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}
        for entries in (self.unused, self.added_ids):
            table.update({number: encode_text(text) for text, number in entries.items()})
        return table

    @cached_property
    def id_of(self) -> dict[bytes, int]:
        """Id of each token that text can be cut into; no added tokens, also where they are units."""
        added = set(self.added_ids.values())
        table = {unit: ids[0] for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}
        return {unit: number for unit, number in table.items() if number not in added} if added else table

    @cached_property
    def scaffolds(self) -> list[int]:
        """Units without an id of their own, in the order of their making."""
        if isinstance(self.emit, PackedIds) and self.emit.are_single:
            return []
        return [unit for unit, ids in enumerate(self.emit) if len(ids) > 1]

    @property
    def size(self) -> int:
        """Number of ids: tokens, added tokens and unused entries."""
        return len(self.tokens)

    @property
    def id_limit(self) -> int:
        """One more than the largest id: the rows an embedding needs."""
        return max(self.tokens) + 1

    @cached_property
    def missing_bytes(self) -> list[int]:
        """In an alphabet of bytes: those that are no unit."""
        if self.alphabet != "bytes":
            return []
        units = self.units
        there = units.singles() if isinstance(units, PackedBytes) else {unit for unit in units if len(unit) == 1}
        return [byte for byte in range(256) if bytes([byte]) not in there]

    @cached_property
    def unknown_ids(self) -> list[int]:
        """The ids that unknown symbols may be written as."""
        numbers = [*self.unknown.byte_ids.values(), *([] if self.unknown.id is None else [self.unknown.id])]
        return list(dict.fromkeys(numbers))

    def symbols(self, piece: bytes) -> list[bytes]:
        """What the merge loop starts from."""
        if self.alphabet == "bytes":
            return [piece[at : at + 1] for at in range(len(piece))]
        return list(map(encode_text, decode_text(piece)))

    def check(self, where: str) -> None:
        """Refuse a vocabulary whose ids contradict each other.

        That a merge's result is spelled by its parts is left to the readers, which find the result by that spelling.
        """
        if len(self.unit_of) != len(self.units):
            raise UserError("two units spell the same bytes", where=where)
        if b"" in self.unit_of:
            raise UserError("a token is empty", where=where)
        self.check_ids(where)
        if len({(left, right) for left, right, _ in self.merges}) != len(self.merges):
            pairs = Counter((left, right) for left, right, _ in self.merges)
            left, right = pairs.most_common(1)[0][0]
            spelled = f"{token_to_string(self.units[left])} {token_to_string(self.units[right])}"
            raise UserError(f"the merge {spelled!r} is listed twice", where=where)
        if not self.scaffolds:
            return
        tokens = self.tokens
        for number in self.scaffolds:
            if b"".join(tokens.get(i, b"") for i in self.emit[number]) != self.units[number]:
                raise UserError(
                    f"scaffold {token_to_string(self.units[number])!r} is not spelled by its parts", where=where
                )

    def check_ids(self, where: str) -> None:
        """Refuse ids that two tokens share, and ids that are none."""
        if not self.units and not self.added:
            raise UserError("the vocabulary is empty", where=where)
        if isinstance(self.emit, PackedIds) and self.emit.are_single:
            text_ids = self.emit.numbers
        else:
            text_ids = [ids[0] for ids in self.emit if len(ids) == 1]
        entries = [*text_ids, *self.unused.values()]
        added = list(self.added_ids.values())
        every_id = [*entries, *added]
        if len(set(entries)) != len(entries) or len(set(added)) != len(added) or min(every_id) < 0:
            raise UserError("two tokens share an id, or an id is negative", where=where)
        if max(every_id) > LARGEST_ID:
            raise UserError(f"id {max(every_id)} is too large", where=where, hint=f"at most {LARGEST_ID}")
        shared = set(entries) & set(added)
        if shared:
            number = {ids[0]: unit for unit, ids in zip(self.units, self.emit, strict=True) if len(ids) == 1}
            for text, token in self.added_ids.items():
                if token in number and self._spelled(text) != number[token]:
                    raise UserError(f"two tokens share an id: added token {text!r:.100} and another", where=where)
        if "" in self.added_ids:
            raise UserError("a token is empty", where=where)

    def _spelled(self, text: str) -> bytes | None:
        try:
            return string_to_token(text) if self.alphabet == "bytes" else encode_text(text)
        except KeyError:
            return None
