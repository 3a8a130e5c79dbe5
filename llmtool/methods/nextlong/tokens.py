"""How many tokens each chunk has, with the separator behind it: uint32 [chunks], in units as the vectors are."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import Sharded, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.methods.nextlong.embedding import UNIT
from llmtool.methods.nextlong.store import Store

BATCH = 2048


def token_stage(directory: Path, store: Store, tokenizer: BaseTokenizer, separator: str) -> Stage:
    """The stage's directory, one for each tokenizer."""
    fingerprint = tokenizer.fingerprint()
    settings = {"chunks": store.facts["digest"], "tokenizer": fingerprint, "separator": separator}
    return Stage(directory / f"tokens-{fingerprint[:8]}-{Stage(directory, settings).fingerprint[:4]}", settings)


def token_unit(stage: Stage, store: Store, tokenizer: BaseTokenizer, separator: bytes, unit: int) -> None:
    """Write one unit."""
    start, stop = unit * UNIT, min(store.chunks, (unit + 1) * UNIT)
    counts = []
    for place in range(start, stop, BATCH):
        texts = [text + separator for text in store.texts(place, min(stop, place + BATCH))]
        _, ends = tokenizer.encode_buffers(texts, threads=1)
        counts.append(np.diff(np.frombuffer(ends, np.uint64), prepend=np.uint64(0)).astype(np.uint32))
    array = np.concatenate(counts)
    save_array(stage.path(unit, "npy"), array)
    stage.finish(unit, [stage.path(unit, "npy").name], {"tokens": int(array.sum())})


def token_counts(stage: Stage) -> npt.NDArray[np.uint32]:
    """What the stage counted [chunks]."""
    units = range(stage.totals()["units"])
    return np.concatenate([np.zeros(0, np.uint32), *Sharded([stage.path(u, "npy") for u in units], UNIT).parts])
