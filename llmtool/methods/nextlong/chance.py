"""What is drawn for a document: hashes of (seed, purpose, key), the same wherever it stands, whatever is beside it."""

import hashlib

import numpy as np
import numpy.typing as npt

from llmtool.methods.nextlong.words import mix

U64 = npt.NDArray[np.uint64]


def stable_hash(seed: int, *names: object) -> int:
    """64 bits, the same on every machine."""
    text = "\0".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def drawn(seed: int, purpose: str, keys: U64) -> U64:
    """64 random bits for each key [N]."""
    return mix(keys ^ np.uint64(stable_hash(seed, purpose)))


def even(seed: int, purpose: str, keys: U64) -> npt.NDArray[np.float64]:
    """A number from 0 to below 1 for each key [N]."""
    return np.asarray((drawn(seed, purpose, keys) >> np.uint64(11)) * 2.0**-53)


def again(key: int, times: int) -> int:
    """The key of a document whose name, or text, came `times` before: seeds and samples are told apart by it."""
    return int(mix(np.array([key + times & (1 << 64) - 1], np.uint64))[0]) if times else key


def first_keys(keys: U64) -> U64:
    """For each document [docs], in the order in which they are stored, the key of the first one of its name or text."""
    first, times, left = keys.copy(), 0, np.arange(1, len(keys))
    while len(left):
        times += 1  # those that come `times` behind the first one stand there, and after one that came `times` - 1
        left = left[left >= times]
        left = left[keys[left] == mix(keys[left - times] + np.uint64(times))]
        first[left] = keys[left - times]
        left = left[left < len(keys) - 1] + 1
    return first


def held_out(keys: U64, share: float) -> npt.NDArray[np.bool_]:
    """Which documents are kept for evaluation [docs]: the same for every --seed, and some more for a larger share.

    Those of one name, or without names of one text, together: drawn each by itself, every one of a text that stands
    twice would be kept from the samples where either is drawn, 36% for a share of 20%.
    """
    return even(0, "held out", first_keys(keys)) < share
