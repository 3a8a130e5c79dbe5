"""Text that a sample holds twice, measured without words, shingles or sketches: its longest common substrings.

The filter works with shingles; this looks at characters, so that it sees what the filter might miss. Windows of 32, 64,
... 2,048 characters (runs of space count as one) are hashed, each length from the one before, and looked for elsewhere
in the sample: the length found is the greatest power of two that does not exceed that of the longest common substring.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmtool.methods.nextlong.words import U64, mix

I64 = npt.NDArray[np.int64]
SHORTEST, LONGEST = 32, 2048
_MIX = np.uint64(0x9E3779B97F4A7C15)


def longest(texts: Sequence[str], roles: Sequence[Literal["meta", "negative", "document"]]) -> tuple[I64, I64]:
    """For each text the length it shares with a meta-chunk, and with an earlier text that is none [texts], [texts].

    0: nothing of SHORTEST characters. Meta-chunks are not compared.
    """
    plain = [" ".join(text.split()) for text in texts]
    owner = np.repeat(np.arange(len(plain)), [len(text) for text in plain])
    codes = np.frombuffer("".join(plain).encode("utf-32-le"), "<u4").astype(np.uint64)
    meta = np.array([role == "meta" for role in roles], np.bool_)
    with_meta, with_earlier = np.zeros(len(plain), np.int64), np.zeros(len(plain), np.int64)
    hashes, length = mix(codes + np.uint64(1)), 1
    while length <= LONGEST and len(codes) >= length:
        if length >= SHORTEST:
            inside = np.flatnonzero(owner[: len(hashes)] == owner[length - 1 :][: len(hashes)])
            if not len(inside):
                break
            near_meta, earlier = _found(hashes[inside], owner[inside], meta)
            with_meta[near_meta], with_earlier[earlier] = length, length
        hashes = mix(hashes[:-length] * _MIX + hashes[length:]) if len(hashes) > length else hashes[:0]
        length *= 2
    return with_meta, with_earlier


def _found(hashes: U64, owner: I64, meta: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
    """Which texts share a window with a meta-chunk, which with an earlier other text."""
    _, place = np.unique(hashes, return_inverse=True)
    negative = ~meta[owner]
    known = np.zeros(int(place.max()) + 1, np.bool_)
    known[place[~negative]] = True
    first = np.full(len(known), len(meta), np.int64)
    np.minimum.at(first, place[negative], owner[negative])
    place, owner = place[negative], owner[negative]
    return np.unique(owner[known[place]]), np.unique(owner[first[place] < owner])
