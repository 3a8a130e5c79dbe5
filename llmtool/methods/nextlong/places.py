"""Which bytes of a text each of its ids comes from, whatever the tokenizer makes of the text before it cuts it.

Where the ids spell the text, byte for byte or behind one space that the tokenizer put in front, their lengths are
counted; where they spell the normalized text, in that. Elsewhere (symbols that stand for a space, tokens that take
white space along) they are followed through the tokenizer's steps, in whole characters, and where these cannot be
followed prefixes of the text are encoded.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.pretokenizers import CUSTOM
from llmtool.core.bpe.tokenizer import BaseTokenizer

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
NEAR = 2048
"""Bytes that are not worth another cut."""

WIDEST = 512
"""Bytes that an id may come from, at most; more says that a step was not followed."""


def spells_all(tokenizer: BaseTokenizer) -> bool:
    """Whether the ids of any text spell it, byte for byte."""
    definition = tokenizer.definition
    strips = any((token.lstrip or token.rstrip) and not token.special for token in definition.vocabulary.added)
    return definition.spells_bytes and not definition.normalizer and definition.pretokenizer != CUSTOM and not strips


class Aligned(Protocol):
    """A text and its ids."""

    def stop(self, number: int) -> int:
        """The byte behind the first `number` ids, which lies between characters or within the last one."""
        ...

    def tokens(self, spans: I64) -> I64:
        """The ids [first, last) that stretches of bytes [stretches, 2] lie in; same shape."""
        ...


@dataclass(frozen=True)
class Ranges:
    """The first byte of each id and the one behind its last [ids]; neither ever falls from one id to the next."""

    begins: I64
    ends: I64

    def stop(self, number: int) -> int:
        """See Aligned."""
        return int(self.ends[number - 1])

    def tokens(self, spans: I64) -> I64:
        """See Aligned."""
        first = np.searchsorted(self.ends, spans[:, 0], "right")  # the token that holds the first byte
        return np.stack([first, np.searchsorted(self.begins, spans[:, 1], "left")], 1)


class Normalized:
    """By the ranges of the ids in the normalized text."""

    def __init__(self, tokenizer: BaseTokenizer, data: bytes, ranges: Ranges) -> None:
        self._tokenizer, self._data, self._ranges = tokenizer, data, ranges

    def _length(self, start: int, stop: int) -> int:
        return len(self._tokenizer.normalize(self._data[start:stop].decode("utf-8", "ignore")))

    def stop(self, number: int) -> int:
        """See Aligned."""
        wanted = self._ranges.stop(number)
        low, high, before = 0, len(self._data), 0
        while high - low > NEAR:  # what is left is normalized alone, so that all of it costs two times the text
            middle = self._data.rfind(b"\n", low + 1, (low + high) // 2)
            middle = middle if middle > low else (low + high) // 2
            length = before + self._length(low, middle)
            low, high, before = (middle, high, length) if length < wanted else (low, middle, before)
        if before != self._length(0, low):  # what a part becomes hangs on what stands beside it
            low, high, before = 0, len(self._data), 0
        return low + bisect_left(range(high - low), wanted - before, key=lambda size: self._length(low, low + size))

    def tokens(self, spans: I64) -> I64:
        """See Aligned."""
        places = np.unique(np.append(spans, [0, len(self._data)]))
        moved = np.cumsum([0, *(self._length(start, stop) for start, stop in pairwise(places.tolist()))])
        if moved[-1] != self._length(0, len(self._data)):  # what a part becomes hangs on what stands beside it
            moved = np.array([self._length(0, place) for place in places.tolist()])
        return self._ranges.tokens(moved[np.searchsorted(places, spans)])


class Prefixes:
    """By encoding what lies before a place: right but for the ids on both sides of it, and slow."""

    def __init__(self, tokenizer: BaseTokenizer, data: bytes, ids: U32) -> None:
        self._tokenizer, self._data, self._ids = tokenizer, data, ids

    def _encode(self, stop: int) -> U32:
        return encode(self._tokenizer, self._data[:stop].decode("utf-8", "ignore").encode())

    def stop(self, number: int) -> int:
        """See Aligned."""
        return bisect_left(range(len(self._data)), number, key=lambda stop: len(self._encode(stop)))

    def _before(self, place: int) -> int:
        made = self._encode(place)
        size = min(len(made), len(self._ids))
        differ = np.flatnonzero(made[:size] != self._ids[:size])
        return int(differ[0]) if len(differ) else size

    def tokens(self, spans: I64) -> I64:
        """See Aligned."""
        return np.array([self._before(place) for place in spans.ravel().tolist()], np.int64).reshape(spans.shape)


def encode(tokenizer: BaseTokenizer, text: bytes) -> U32:
    """Ids of a text on one thread."""
    ids, _ = tokenizer.encode_buffers([text], threads=1)
    return np.frombuffer(ids, np.uint32)


class Places:
    """Finds them for one tokenizer."""

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self.tokenizer = tokenizer
        self._spells_all = spells_all(tokenizer)

    @cached_property
    def _lengths(self) -> I64:
        """Bytes of each id [ids]."""
        lengths = np.zeros(self.tokenizer.definition.vocabulary.id_limit, np.int64)
        for token, data in self.tokenizer.texts.items():
            lengths[token] = len(data)
        return lengths

    def of(self, data: bytes, ids: U32) -> Aligned:
        """A text and its ids."""
        if self._spells_all:
            ends = np.cumsum(self._lengths[ids])
            return Ranges(ends - self._lengths[ids], ends)
        spelled = b"".join([self.tokenizer.texts[token] for token in ids.tolist()])
        ends = np.cumsum(self._lengths[ids])
        for text in (data, self.tokenizer.normalize(data)):
            if spelled in (text, b" " + text):
                extra = len(spelled) - len(text)
                ranges = Ranges(np.maximum(ends - self._lengths[ids] - extra, 0), ends - extra)
                return ranges if text == data else Normalized(self.tokenizer, data, ranges)
        if self.tokenizer.definition.pretokenizer == CUSTOM:
            return Prefixes(self.tokenizer, data, ids)
        _, spans = self.tokenizer.encode_with_offsets(data.decode())
        starts = np.flatnonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)
        found = np.append(starts, len(data))[np.array(spans, np.int64).reshape(-1, 2)]
        if int((found[:, 1] - found[:, 0]).max()) > WIDEST:
            return Prefixes(self.tokenizer, data, ids)
        return Ranges(np.minimum.accumulate(found[::-1, 0])[::-1], np.maximum.accumulate(found[:, 1]))

    def shortened(self, data: bytes, ids: U32, wanted: int) -> tuple[bytes, U32]:
        """A prefix with the first `wanted` ids and its ids, where the text has many more and is not simply spelled."""
        size = wanted + wanted // 4 + WIDEST
        while not self._spells_all and 2 * size < len(ids):
            part = data[: len(data) * size // len(ids)].decode("utf-8", "ignore").encode()
            made = encode(self.tokenizer, part)
            if len(made) > wanted + WIDEST:
                return part, made
            size *= 2
        return data, ids
