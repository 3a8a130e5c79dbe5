"""Safetensors files written as a stream: the header is placed last, into room that was left for it.

The format puts the header first, but names and shapes are known only once the stream has ended. Room for
about a thousand entries is left at the start of each shard and filled up with spaces, which the format allows; a shard
whose header would not fit is closed early. So a tensor is written once, and none is kept.
"""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from llmtool.core.checkpoint.directory import INDEX, SINGLE
from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES, ElementType, refuse_not_finite, torch_dtype, type_of
from llmtool.core.checkpoint.safetensors_file import METADATA, PREFIX
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps

if TYPE_CHECKING:
    import torch

HEADER_ROOM = (128 << 10) - PREFIX
PIECE = 1 << 24
"""Elements that are converted and written at once: converting an embedding of a gigabyte takes 64 MB beside it."""
HALF_ENDS = 65_520
"""What rounds to infinity in fp16, whose largest number is 65,504."""

ALIGNMENT = 8
"""Bytes. Readers view the data in place, so each tensor must start at a multiple of its element's size."""


class ShardWriter:
    """Tensors into `directory`: `add` them, then `finish`."""

    def __init__(self, directory: Path, max_shard_size: int, dtype: ElementType | None = None) -> None:
        self.directory = directory
        self.max_shard_size = max_shard_size
        self.dtype = dtype
        self.shard_of: dict[str, int] = {}
        self.parameters = 0
        self.size = 0
        self._shards: list[dict[str, Any]] = []
        self._open: _Shard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._open is not None:
            self._open.file.close()

    def add(self, name: str, tensor: "torch.Tensor") -> int:
        """Write a tensor, converted if it is floating and a type was asked for; returns its bytes in the file."""
        if name in self.shard_of or name == METADATA:
            raise ValueError(f"tensor {name!r} came twice or is named as no tensor can be")
        kind = type_of(tensor)
        if self.dtype is not None and kind.floating:
            kind = _converted(name, kind, self.dtype)
        size = tensor.numel() * kind.size
        entry = {"dtype": kind.code, "shape": list(tensor.shape)}
        if self._open is not None and not self._open.has_room(name, entry, size, self.max_shard_size):
            self._close()
        if self._open is None:
            self._open = _Shard(self.directory / f"shard-{len(self._shards)}")
        self._open.add(name, entry, tensor, kind)
        self.shard_of[name] = len(self._shards)
        self.parameters += tensor.numel() if tensor.is_floating_point() else 0  # else a table, such as MaskMoE's
        self.size += size
        return size

    def finish(self) -> list[dict[str, Any]]:
        """Close the last shard, give all their names, write the index where there are several; run.json's entries."""
        if self._open is None and not self._shards:
            raise ValueError("no tensor to write")
        self._close()
        number = len(self._shards)
        names = [f"model-{i + 1:05}-of-{number:05}.safetensors" for i in range(number)] if number > 1 else [SINGLE]
        for name, shard in zip(names, self._shards, strict=True):
            (self.directory / shard["path"]).rename(self.directory / name)
            shard["path"] = name
        if number > 1:
            weight_map = {name: names[shard] for name, shard in sorted(self.shard_of.items())}
            index = {"metadata": {"total_size": self.size}, "weight_map": weight_map}
            (self.directory / INDEX).write_text(dumps(index, indent=2) + "\n", encoding="utf-8")
        return self._shards

    def _close(self) -> None:
        if self._open is not None:
            self._shards.append(self._open.close())
            self._open = None


def _converted(name: str, kind: ElementType, wanted: ElementType) -> ElementType:
    if kind.quantized:
        hint = "their scales stand in other tensors; dequantize the model first"
        raise UserError(f"{name} holds quantized numbers ({kind.code})", hint=hint)
    return wanted


class _Shard:
    """One file being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes] = path.open("wb", buffering=0)
        self.file.seek(PREFIX + HEADER_ROOM)
        self.entries: dict[str, Any] = {METADATA: {"format": "pt"}}
        self.header_size = len(_header(self.entries))
        self.position = 0
        self.size = 0
        # Tensors of odd length would shift their successors off alignment: kept, and written last. They are tiny:
        # in a model every dimension but that of a scalar is a multiple of 8.
        self.kept: list[tuple[str, torch.Tensor, ElementType]] = []

    def has_room(self, name: str, entry: dict[str, Any], size: int, max_size: int) -> bool:
        """Whether the tensor fits under the wanted size, and its entry in the header."""
        return self.size + size <= max_size and self.header_size + _entry_size(name, entry) <= HEADER_ROOM

    def add(self, name: str, entry: dict[str, Any], tensor: "torch.Tensor", kind: ElementType) -> None:
        """Write the tensor, or keep it for the end."""
        self.header_size += _entry_size(name, entry)
        self.size += tensor.numel() * kind.size
        self.entries[name] = entry
        if tensor.numel() * kind.size % ALIGNMENT:
            self.kept.append((name, tensor.clone(), kind))
        else:
            self._write(name, tensor, kind)

    def _write(self, name: str, tensor: "torch.Tensor", kind: ElementType) -> None:
        start = self.position
        flat = tensor.detach().reshape(-1)
        for place in range(0, flat.numel(), PIECE):
            given = flat[place : place + PIECE]
            piece = given.to("cpu", torch_dtype(kind))
            narrowed = kind.code == "F16" and type_of(tensor) != kind
            refuse_not_finite(given if narrowed else piece, name, "nothing was written")
            if narrowed:
                _refuse_beyond(given, name)
            _write_all(self.file, piece.contiguous().view(torch_dtype(ELEMENT_TYPES["U8"])).numpy().data)
        self.position += flat.numel() * kind.size
        self.entries[name]["data_offsets"] = [start, self.position]

    def close(self) -> dict[str, Any]:
        """Write what was kept and the header, and hash the file."""
        for name, tensor, kind in sorted(self.kept, key=lambda kept: -kept[2].size):
            self._write(name, tensor, kind)
        header = _header(self.entries)
        self.file.seek(0)
        _write_all(self.file, memoryview(HEADER_ROOM.to_bytes(PREFIX, "little") + header.ljust(HEADER_ROOM)))
        self.file.close()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": self.path.name, "bytes": self.path.stat().st_size, "sha256": digest}


def _refuse_beyond(piece: "torch.Tensor", name: str) -> None:
    """Refuse a number that fp16 would make infinite."""
    low, high = (bound.item() for bound in piece.aminmax())
    largest = low if -low > high else high
    if abs(largest) >= HALF_ENDS:
        raise UserError(f"holds {largest:,.6g}, and fp16 ends at 65,504", where=name, hint="bf16 holds such numbers")


def _header(entries: dict[str, Any]) -> bytes:
    return dumps(entries, separators=(",", ":")).encode()


def _entry_size(name: str, entry: dict[str, Any]) -> int:
    """Bytes of an entry, at most: offsets have up to 19 digits."""
    return len(_header({name: {**entry, "data_offsets": [1 << 63, 1 << 63]}}))


def _write_all(file: IO[bytes], data: memoryview) -> None:
    """An unbuffered write may take less than it is given."""
    while len(data):
        data = data[file.write(data) :]
