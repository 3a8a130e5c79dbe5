"""Words of many texts at once as 64-bit hashes, in numpy: about 50 MB/s a core, no Python object for each word.

A word is a run of ASCII letters, digits and `_` or of other characters; of the scripts that write no spaces (U+3000 to
U+DFFF: Chinese, Japanese, Hangul) each character is a word. Case is folded.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_REACH = 32  # bytes of a word that are told apart by place; later ones repeat the places
_WORD = np.zeros(256, np.bool_)
_WORD[[*b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", *range(0x80, 256)]] = True
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[ord("A") : ord("Z") + 1] += 32


def _table() -> U64:
    """Random numbers by (place in the word, byte), the same on every machine and forever."""
    digest = hashlib.shake_256(b"llmtool words").digest(_REACH * 256 * 8)
    table = np.frombuffer(digest, "<u8").astype(np.uint64).reshape(_REACH, 256)
    return np.ascontiguousarray(table[:, _LOWER]).reshape(-1)


_TABLE = _table()
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
    lowered = [text if text.isascii() else text.decode("utf-8", "replace").lower().encode() for text in texts]
    data = np.frombuffer(b" ".join(lowered) + b" ", np.uint8)
    ends = np.cumsum([len(text) + 1 for text in lowered])
    word = _WORD[data]
    begins = word.copy()
    begins[1:] &= ~word[:-1]
    if int(data.max()) >= 0xE3:
        wide = (data >= 0xE3) & (data <= 0xED)
        begins |= wide
        begins[3:] |= wide[:-3] & word[3:] & ((data[3:] < 0x80) | (data[3:] >= 0xC0))
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
    lengths = np.diff(starts, append=len(data))
    places = np.arange(len(data) - starts[0]) - np.repeat(starts, lengths) + starts[0]
    values = _TABLE[((places & (_REACH - 1)) << 8) | data[starts[0] :]]
    values[~word[starts[0] :]] = 0
    hashes = np.add.reduceat(values, starts - starts[0])
    return mix(hashes), np.searchsorted(starts, ends).astype(np.int64)


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
