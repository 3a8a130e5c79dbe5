"""mask.safetensors: the table as a file of its own, with what it was made from; any safetensors reader opens it.

masks   uint8 [layers, vocabulary, ceil(E / 8)]
counts  int64 [vocabulary], occurrences in the corpus
tid2eid int64 [layers, vocabulary, top_k], DeepSeek-V4's form, where it was asked for
metadata "llmtool": {"schema", "experts", "rule", "structure", "tokenizer", "report"}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from llmtool.core.checkpoint.safetensors_file import METADATA, SafetensorsFile
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.wording import counted
from llmtool.methods.mask_moe.table import Ints, Masks, check_table

SCHEMA = "llmtool.token-experts/1"
CODES = {"uint8": "U8", "int64": "I64"}


@dataclass(frozen=True)
class Table:
    """A table that was read and checked."""

    masks: Masks
    counts: Ints
    experts: int
    facts: dict[str, Any]

    def fitting(self, layers: int, vocabulary: int, where: str) -> Masks:
        """Masks [layers, vocabulary, bytes] for a model of so many layers and ids; a UserError where it has others."""
        own_layers, own_ids, _ = self.masks.shape
        if own_ids > vocabulary or own_layers != layers:
            what = f"a table for {counted(own_layers, 'layer')} and {own_ids:,} ids, the model has"
            raise UserError(f"{what} {counted(layers, 'layer')} and {vocabulary:,} ids", where=where,
                            hint="llmtool data token-experts --model CKPT")  # fmt: skip
        return self.padded(vocabulary)

    def padded(self, vocabulary: int) -> Masks:
        """Masks for a model whose embedding is padded beyond the tokenizer: ids that never occur see expert 0."""
        layers, held, size = self.masks.shape
        if held == vocabulary:
            return self.masks
        rest = np.zeros((layers, vocabulary - held, size), dtype=np.uint8)
        rest[:, :, 0] = 1
        return np.concatenate([self.masks, rest], 1)


def write_table(file: IO[bytes], arrays: Mapping[str, np.ndarray[Any, Any]], facts: Mapping[str, Any]) -> None:
    """Write a safetensors file; the widest elements first, so that each tensor stands at a multiple of its element."""
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, Any] = {METADATA: {"llmtool": dumps({"schema": SCHEMA, **facts})}}
    at = 0
    for name, array in ordered:
        spot = [at, at + array.nbytes]
        header[name] = {"dtype": CODES[str(array.dtype)], "shape": list(array.shape), "data_offsets": spot}
        at = spot[1]
    text = dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, array in ordered:
        file.write(np.ascontiguousarray(array).tobytes())


def load_table(path: Path) -> Table:
    """Read a table; a UserError where it is none, is broken, or shows an id no expert."""
    if not path.is_file():
        raise UserError("no such file", where=str(path), hint="llmtool data token-experts makes one")
    file = SafetensorsFile(path)
    try:
        facts = parse_json(file.metadata.get("llmtool", "{}"))
    except ValueError:
        facts = {}
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA or not {"masks", "counts"} <= file.entries.keys():
        raise UserError(f"not a table of experts by token ({SCHEMA})", where=str(path))
    masks, counts = file.read("masks").numpy(), file.read("counts").numpy()
    experts = facts.get("experts")
    if type(experts) is not int or not 2 <= experts <= 256 or counts.shape != masks.shape[1:2]:
        raise UserError("its experts or counts do not fit its masks", where=str(path))
    try:
        check_table(masks, experts)
    except UserError as error:
        raise UserError(error.what, where=str(path)) from None
    return Table(masks, counts, experts, facts)
