"""SentencePiece's normalization table (`precompiled_charsmap`): strings of characters, and what each becomes.

A double-array trie of the strings as darts-clone lays it out, then the replacements, each ended by a zero byte. Two
readers apply it in two ways: `longest` is SentencePiece's own, `by_grapheme` is that of `tokenizers` (Precompiled).
"""

import base64
import binascii
import struct
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.pattern import pinned
from llmtool.core.run.errors import UserError

LARGEST = 1 << 24
"""Bytes; nmt_nfkc's table has 240,000."""

LONGEST = 256
"""Bytes of the longest string that is looked for; nmt_nfkc's longest has 21."""

_ROOT = 0


class CharsMap:
    """A table, checked as it is read: a walk that leaves it ends there."""

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:4], "little")
        if len(data) < 8 or size % 4 or not 4 <= size <= len(data) - 4 or len(data) > LARGEST:
            raise ValueError("it is no trie with replacements")
        self._units = struct.unpack_from(f"<{size // 4}I", data, 4)
        self._texts = data[4 + size :]
        self._known: dict[str, str] = {}
        follows_ascii = any(self._child(self._child(_ROOT, a), b) for a in range(128) for b in range(128))
        self._ascii = None if follows_ascii else {code: self._of_ascii(code) for code in range(128)}

    def _of_ascii(self, code: int) -> str:
        found = self._matches(bytes([code]))
        return found[-1][1] if found else chr(code)

    def _child(self, node: int | None, label: int) -> int | None:
        """The place of the node's child by a byte."""
        if node is None:
            return None
        unit = self._units[node]
        place = node ^ ((unit >> 10) << ((unit & 0x200) >> 6)) ^ label
        return place if place < len(self._units) and self._units[place] & 0x800000FF == label else None

    def _matches(self, data: bytes) -> list[tuple[int, str]]:
        """(bytes, replacement) of each string that `data` begins with, the shortest first."""
        found: list[tuple[int, str]] = []
        node: int | None = _ROOT
        for size, label in enumerate(data, 1):
            node = self._child(node, label) if label else None
            if node is None:
                break
            unit = self._units[node]
            if unit >> 8 & 1:
                leaf = node ^ ((unit >> 10) << ((unit & 0x200) >> 6))
                if leaf >= len(self._units):
                    break
                start = self._units[leaf] & 0x7FFFFFFF
                end = self._texts.find(b"\0", start)
                text = self._texts[start : end if end >= 0 else len(self._texts)]
                found.append((size, text.decode("utf-8", "replace")))
        return found

    def longest(self, text: str) -> str:
        """At each place the longest string of the table, replaced."""
        if self._ascii is not None and text.isascii():
            return text.translate(self._ascii)
        data = text.encode("utf-8", "surrogatepass")
        out: list[str] = []
        at = place = 0  # in bytes, in characters
        while place < len(text):
            found = [match for match in self._matches(data[at : at + LONGEST]) if _starts(data, at + match[0])]
            if found:
                size, replaced = found[-1]
                out.append(replaced)
                place += len(data[at : at + size].decode("utf-8", "surrogatepass"))
            else:
                out.append(text[place])
                size = len(text[place].encode("utf-8", "surrogatepass"))
                place += 1
            at += size
        return "".join(out)

    def by_grapheme(self, text: str) -> str:
        """A grapheme of less than six bytes that begins with a string of the table becomes what the shortest such
        string becomes; else each of its characters does.
        """
        if self._ascii is not None and text.isascii() and "\r\n" not in text:
            return text.translate(self._ascii)
        return "".join(map(self._of_grapheme, _graphemes(text)))

    def _of_grapheme(self, grapheme: str) -> str:
        known = self._known.get(grapheme)
        if known is None:
            known = self._shortest(grapheme) if len(grapheme.encode("utf-8", "surrogatepass")) < 6 else None
            if known is None:
                replaced = ((character, self._shortest(character)) for character in grapheme)
                known = "".join(character if text is None else text for character, text in replaced)
            if len(self._known) < 1 << 16:
                self._known[grapheme] = known
        return known

    def _shortest(self, text: str) -> str | None:
        found = self._matches(text.encode("utf-8", "surrogatepass"))
        return found[0][1] if found else None


def _starts(data: bytes, at: int) -> bool:
    """Whether a character begins there, or the text ends."""
    return at >= len(data) or data[at] & 0xC0 != 0x80


def _graphemes(text: str) -> list[str]:
    return [text[found.start() : found.end()] for found in _cluster().finditer(pinned(text))]


_FOLLOWING = r"[\p{GCB=Extend}\u200d\p{GCB=SpacingMark}]*"
_CLUSTER = (
    r"\r\n|[\p{GCB=Control}\r\n]|\p{GCB=Prepend}*(?:"
    r"\p{GCB=L}*(?:\p{GCB=V}+|\p{GCB=LV}\p{GCB=V}*|\p{GCB=LVT})\p{GCB=T}*|\p{GCB=L}+|\p{GCB=T}+|\p{RI}\p{RI}"
    r"|\p{ExtPict}(?:\p{GCB=Extend}*\u200d\p{ExtPict})*|[^\p{GCB=Control}\r\n])"
    rf"{_FOLLOWING}|\p{{GCB=Prepend}}+{_FOLLOWING}"
)
"""Extended grapheme clusters of UAX 29, without the rule of conjuncts, which \\X of `regex` applies to other characters
than consonants; what it joins has nine bytes at least, and so goes by characters either way.
"""


@lru_cache
def _cluster() -> Any:
    import regex

    return regex.compile(_CLUSTER)


@lru_cache(maxsize=8)
def charsmap(encoded: str, where: str | None = None) -> CharsMap:
    """The table of a file's base64, or a UserError."""
    try:
        return CharsMap(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error) as error:
        raise UserError(f"precompiled_charsmap cannot be read: {error}", where=where) from None
