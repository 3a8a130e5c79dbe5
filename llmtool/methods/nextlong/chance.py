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


def held_out(keys: U64, share: float) -> npt.NDArray[np.bool_]:
    """Which documents are kept for evaluation [docs]: the same for every --seed, and some more for a larger share."""
    return even(0, "held out", keys) < share
