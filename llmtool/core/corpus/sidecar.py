"""An array of ids and the sidecar that describes it, read and compared: a sidecar that is believed loses tokens."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.kinds import SIDECAR_SCHEMA
from llmtool.core.corpus.tokenized import NPY_HEADER
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import require_plain
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.record import Record

Ids = NDArray[np.unsignedinteger[Any]]
DTYPES = ("uint16", "uint32")
_BLOCK = 1 << 20
"""Offsets compared at a time."""


@dataclass(frozen=True)
class Described:
    """ids [tokens], mapped; starts [documents + 1], rising from 0 to the number of tokens; tokenizer: its hash."""

    ids: Ids
    starts: NDArray[np.uint64]
    tokenizer: str | None


def open_described(path: Path, sidecar: Path) -> Described:
    """The array and its offsets, where both are what the sidecar says."""
    about = Record(read_json_object(sidecar), str(sidecar))
    if about.facts.get("schema") != SIDECAR_SCHEMA:
        raise UserError(f"not a sidecar of ids ({SIDECAR_SCHEMA})", where=str(sidecar))
    tokens, kind = about.whole("tokens"), np.dtype(about.choice("dtype", DTYPES)).newbyteorder("<")
    about.choice("byte_order", ("little",), default="little")
    skip = NPY_HEADER if path.suffix == ".npy" else 0
    size = require_plain(path)
    if size != skip + tokens * kind.itemsize:
        held = (size - skip) // kind.itemsize
        raise UserError(f"holds {held:,} ids, the sidecar says {tokens:,}", where=str(path), hint="truncated?")
    offsets = path.with_name(about.name("offsets"))
    starts = map_array(offsets, hint=None)
    if starts.dtype != np.dtype("<u8") or starts.ndim != 1 or not starts.size:
        raise UserError(f"holds {starts.dtype} of shape {list(starts.shape)}, wanted uint64 in one dimension",
                        where=str(offsets))  # fmt: skip
    if int(starts[0]) != 0 or int(starts[-1]) != tokens or _falls(starts):
        raise UserError(f"does not rise from 0 to the {tokens:,} tokens", where=str(offsets))
    ids: Ids = np.memmap(path, kind, "r", offset=skip, shape=(tokens,)) if tokens else np.zeros(0, kind)
    return Described(ids, starts, about.text("tokenizer_sha256", default="") or None)


def _falls(starts: NDArray[np.uint64]) -> bool:
    """Whether a document ends before it begins."""
    for first in range(0, len(starts) - 1, _BLOCK):
        block = starts[first : first + _BLOCK + 1]
        if (block[1:] < block[:-1]).any():
            return True
    return False
