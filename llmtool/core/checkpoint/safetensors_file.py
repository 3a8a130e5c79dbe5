"""One safetensors file: a strict reader of the header, and tensors fetched by pread, one at a time.

Written from the format's definition rather than on the `safetensors` package, for three reasons: an error names file,
tensor and expected shape; headers are read without torch; and nothing is mapped, so a process that converts a
checkpoint holds the tensor it works on and not every page it has touched.

A file is 8 bytes of header length, a JSON header {name: {"dtype", "shape", "data_offsets": [start, stop]}} and the
data, without gaps or overlaps. Whatever deviates is refused.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES, ElementType, torch_dtype, torch_for_weights
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.files import open_plain
from llmtool.core.run.numbers import shown

if TYPE_CHECKING:
    import torch

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own library."""

PREFIX = 8
CHUNK = 1 << 28
"""Bytes of one pread: Linux moves at most 2 GiB in a call."""

METADATA = "__metadata__"
MOST_DIMENSIONS = 64
"""More than any library has; the product of 100,000 dimensions of 2^62 took 20 s."""


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as the header describes it; `start` and `stop` are byte offsets into the file."""

    name: str
    kind: ElementType
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self.stop - self.start

    def part(self, rows: range) -> "TensorEntry":
        """Some of its rows, which are one range of bytes."""
        width = self.size // self.shape[0] if self.shape[0] else 0
        start, stop = self.start + rows.start * width, self.start + rows.stop * width
        return replace(self, shape=(len(rows), *self.shape[1:]), start=start, stop=stop)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class SafetensorsFile:
    """The header of one file, read and checked when made; `entries` by name in the order of the data."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.file_size, header = _read_header(self.path)
        facts = _parse_header(header, self.path)
        self.metadata = _checked_metadata(facts.pop(METADATA, {}), self.path)
        data_start = PREFIX + len(header)
        found = [_entry(name, fact, data_start, self.path) for name, fact in facts.items()]
        # Empty tensors share their offset with the next one: they go first.
        found.sort(key=lambda entry: (entry.start, entry.stop))
        _refuse_gaps(found, data_start, self.file_size, self.path)
        self.entries = {entry.name: entry for entry in found}

    def read(self, name: str, rows: range | None = None) -> "torch.Tensor":
        """The tensor, or the given rows of it (of its first dimension), in memory of its own; no other byte is read."""
        entry = self.entries[name] if rows is None else self.entries[name].part(rows)
        data: torch.Tensor = torch_for_weights().empty(entry.size, dtype=torch_dtype(ELEMENT_TYPES["U8"]))
        self._read_into(data.numpy().data, entry)
        return data.view(torch_dtype(entry.kind)).view(entry.shape)

    def _read_into(self, buffer: memoryview, entry: TensorEntry) -> None:
        where = f"{self.path}: {entry.name}"
        try:
            with self.path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != self.file_size:
                    raise UserError("the file changed while it was read", where=str(self.path))
                done = 0
                while done < entry.size:
                    count = os.preadv(file.fileno(), [buffer[done : done + CHUNK]], entry.start + done)
                    if count == 0:
                        raise UserError("the file ends inside this tensor", where=where)
                    done += count
        except OSError as error:
            raise UserError(f"cannot read: {explain_os_error(error)}", where=where) from None


def _read_header(path: Path) -> tuple[int, bytes]:
    """Size of the file, and the header's bytes."""
    where = str(path)
    try:
        with open_plain(path) as file:
            file_size = os.fstat(file.fileno()).st_size
            prefix = file.read(PREFIX)
            if len(prefix) < PREFIX:
                raise UserError(f"{file_size} bytes: too short for a safetensors file", where=where)
            length = int.from_bytes(prefix, "little")
            if prefix.startswith(b"version"):
                raise UserError("a Git LFS pointer, not the file itself", where=where, hint="run git lfs pull")
            if length > LARGEST_HEADER:
                hint = "is it a safetensors file?"
                raise UserError(f"the header would have {length:,} bytes: too many", where=where, hint=hint)
            if PREFIX + length > file_size:
                what = f"truncated: the header has {length:,} bytes, the file {file_size:,}"
                raise UserError(what, where=where, hint="is the download complete?")
            return file_size, file.read(length)
    except OSError as error:
        raise UserError(f"cannot read: {explain_os_error(error)}", where=where) from None


def _parse_header(header: bytes, path: Path) -> dict[str, Any]:
    where = str(path)

    def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        facts = dict(pairs)
        if len(facts) < len(pairs):
            repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise UserError(f"the header names {repeated!r} twice", where=where)
        return facts

    try:
        facts = json.loads(header.decode(), object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"the header is not JSON: {reason}", where=where, hint="is it a safetensors file?") from None
    if not isinstance(facts, dict):
        raise UserError("the header is not a JSON object", where=where)
    return facts


def _checked_metadata(facts: Any, path: Path) -> dict[str, str]:
    if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
        raise UserError(f"{METADATA} is not an object of strings", where=str(path))
    return facts


def _entry(name: str, fact: Any, data_start: int, path: Path) -> TensorEntry:
    where = f"{path}: {name}"
    if not isinstance(fact, dict) or fact.keys() != {"dtype", "shape", "data_offsets"}:
        raise UserError("wanted dtype, shape and data_offsets in the header", where=where)
    code, shape, offsets = fact["dtype"], fact["shape"], fact["data_offsets"]
    if not isinstance(code, str) or code not in ELEMENT_TYPES:
        known = ", ".join(ELEMENT_TYPES)
        raise UserError(f"dtype {code!r} is not supported", where=where, hint=f"one of {known}")
    if not _are_counts(shape) or len(shape) > MOST_DIMENSIONS:
        raise UserError(f"{shown(shape)} is not a shape", where=where)
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise UserError(f"data_offsets {shown(offsets)} are not a range", where=where)
    kind, (start, stop) = ELEMENT_TYPES[code], offsets
    wanted = math.prod(shape) * kind.size
    if stop - start != wanted:
        what = f"shape {list(shape)} of {code} is {wanted:,} bytes, but data_offsets span {stop - start:,}"
        raise UserError(what, where=where)
    return TensorEntry(name, kind, tuple(shape), data_start + start, data_start + stop)


def _are_counts(values: Any) -> bool:
    """Whether this is a list of integers from 0 to 2^63 - 1 (and not of booleans)."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _refuse_gaps(entries: Iterable[TensorEntry], data_start: int, file_size: int, path: Path) -> None:
    """The data is exactly the tensors, one after the other, to the end of the file."""
    position, before = data_start, None
    for entry in entries:
        where = f"{path}: {entry.name}"
        if entry.stop > file_size:
            what = f"truncated: {list(entry.shape)} of {entry.kind.code} ends at byte {entry.stop:,}"
            raise UserError(f"{what}, the file at {file_size:,}", where=where, hint="is the download complete?")
        if entry.start < position:
            raise UserError(f"its data overlaps that of {before!r}", where=where)
        if entry.start > position:
            raise UserError(f"{entry.start - position:,} bytes before its data belong to no tensor", where=where)
        position, before = entry.stop, entry.name
    if position != file_size:
        raise UserError(f"{file_size - position:,} bytes at the end belong to no tensor", where=str(path))
