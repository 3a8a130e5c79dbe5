"""Words of many texts at once as 64-bit hashes, in numpy: one tokeniser for LSA, BM25, sketches and contamination.

`reference.words_of` says what they are: text is brought to NFKC and its case folded, a word is a run of letters, marks,
digits and `_` as Unicode has them (\\w), and where a script writes no spaces (Thai, Lao, Khmer, Burmese, Tibetan, Han,
Kana and their kin) each two neighbouring characters are one, a character with its marks. Some 30 MB/s a core of ASCII,
10 of other text; no Python object for each word.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import regex

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_SCRIPTS = "Hani Hira Kana Bopo Tibt Thai Laoo Khmr Mymr Yiii Java Bali Tang Nshu Kits"
UNSPACED = r"[\w&&[\p{LB=SA}" + "".join(rf"\p{{scx={name}}}" for name in _SCRIPTS.split()) + "]]"
"""Characters of the scripts that write no spaces between words, their marks included."""

MARK = rf"[{UNSPACED}&&\p{{M}}]"
_IGNORED = regex.compile(r"[\p{DI}--\u200B]", regex.VERSION1)
"""Soft hyphens, joiners, variation selectors; the zero-width space separates words, in Khmer for one."""

_LETTER, _BASE, _JOINED = 1, 2, 3
_REACH = 32  # characters of a word that are told apart by place; later ones repeat the places


def folded(text: str) -> str:
    """Text as it is compared: NFKC, case folded, without what is invisible."""
    if text.isascii():
        return text.lower()
    text = normalize("NFKC", normalize("NFKC", text).casefold())
    return _IGNORED.sub("", text) if _IGNORED.search(text) else text


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """By code point: nothing, a letter, a character of an unspaced script, a mark of one [0x110000]."""
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    out = np.zeros(0x110000, np.uint8)
    for pattern, kind in ((r"\w", _LETTER), (UNSPACED, _BASE), (MARK, _JOINED)):
        for match in regex.finditer(pattern + "+", everything, regex.VERSION1):
            first, last = ord(match[0][0]), ord(match[0][-1])
            out[first : last + 1] = kind
    out[0xD800:0xE000] = 0
    return out


@cache
def _table() -> U64:
    """Random numbers by (byte of the code point, place in the word, value), the same on every machine and forever.

    The upper bytes' 0 counts nothing, so ASCII needs the first table only.
    """
    digest = hashlib.shake_256(b"llmtool words").digest(3 * _REACH * 256 * 8)
    table = np.frombuffer(digest, "<u8").astype(np.uint64).reshape(3, _REACH, 256).copy()
    table[1:, :, 0] = 0
    return table.reshape(3, -1)


_MIX = np.uint64(0x9E3779B97F4A7C15)


def mix(values: U64) -> U64:
    """A bijection of 64 bits whose every output bit depends on every input bit (splitmix64's end)."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def word_hashes(texts: Sequence[bytes]) -> tuple[U64, I64]:
    """Hashes of all words [W], and where each text's words end [len(texts)]."""
    strings = [text.lower().decode() if text.isascii() else folded(text.decode("utf-8", "replace")) for text in texts]
    ends = np.cumsum([len(string) + 1 for string in strings])
    joined = "\n".join(strings) + "\n"
    codes: npt.NDArray[Any] = (
        np.frombuffer(joined.encode(), np.uint8)
        if joined.isascii()
        else np.frombuffer(joined.encode("utf-32-le"), "<u4")
    )
    kinds = _classes()[codes]
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    begins = (kinds == _LETTER) & (before != _LETTER)
    unspaced = int(kinds.max()) > _LETTER
    if unspaced:
        begins |= (kinds == _BASE) | ((kinds == _JOINED) & (before < _BASE))
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
    hashes = _hashes(codes[starts[0] :], kinds[starts[0] :], starts - starts[0])
    if unspaced:
        hashes, starts = _pairs(hashes, starts, kinds)
    return hashes, np.searchsorted(starts, ends).astype(np.int64)


def _hashes(codes: npt.NDArray[Any], kinds: npt.NDArray[np.uint8], starts: I64) -> U64:
    """Of each word that begins at one of `starts` [W]."""
    lengths = np.diff(starts, append=len(codes))
    places = ((np.arange(len(codes)) - np.repeat(starts, lengths)) & (_REACH - 1)) << 8
    low, middle, high = _table()
    values = low[places | (codes & 0xFF)]
    if codes.dtype != np.uint8:
        values += middle[places | ((codes >> 8) & 0xFF)]
        if int(codes.max()) > 0xFFFF:
            values += high[places | (codes >> 16)]
    values[kinds == 0] = 0
    return mix(np.add.reduceat(values, starts))


def _pairs(hashes: U64, starts: I64, kinds: npt.NDArray[np.uint8]) -> tuple[U64, I64]:
    """Characters of unspaced scripts become pairs with the next one; the last of several stands in a pair already."""
    alone = kinds[starts] >= _BASE
    joined = np.zeros(len(starts), np.bool_)
    joined[:-1] = alone[:-1] & alone[1:] & (kinds[starts[1:] - 1] >= _BASE)
    following = np.append(hashes[1:], hashes[:1])
    hashes = np.where(joined, mix(hashes * _MIX + following), hashes)
    last = np.zeros(len(starts), np.bool_)
    last[1:] = joined[:-1]
    kept = ~(alone & ~joined & last)
    return hashes[kept], starts[kept]


def owners(ends: I64) -> I64:
    """Number of the text of each word [W], from where the texts' words end."""
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


def ngrams(hashes: U64, ends: I64, n: int) -> tuple[U64, I64]:
    """Hashes of n consecutive words of one text, and the number of the text of each."""
    if len(hashes) < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    count = len(hashes) - n + 1
    combined = np.zeros(count, np.uint64)
    for offset in range(n):
        combined = combined * _MIX + hashes[offset : offset + count]
    text = owners(ends)
    inside = text[:count] == text[n - 1 :]
    return mix(combined[inside]), text[:count][inside]
