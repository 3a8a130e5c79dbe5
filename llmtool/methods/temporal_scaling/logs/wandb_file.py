"""The file in which Weights & Biases keeps a run on disk (`run-ID.wandb`, online or offline), without wandb.

Seven bytes of a header, then LevelDB's log: blocks of 32 KiB; in them records of checksum (CRC-32, u32), length (u16)
and kind (u8): whole, first, middle, last. Read of its messages: Record{history = 2}, HistoryRecord{item = 1},
HistoryItem{key = 1, nested_key = 2, value_json = 16}.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.protobuf import fields
from llmtool.methods.temporal_scaling.logs.columns import Record

_MAGIC = b":W&B"
_START = 7
_BLOCK = 1 << 15
_HEADER = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _ITEM, _KEY, _NESTED, _VALUE = 2, 1, 1, 2, 16


def is_wandb(data: bytes) -> bool:
    """Whether a file begins as one."""
    return data[: len(_MAGIC)] == _MAGIC


def read(data: bytes, name: str) -> Iterator[Record]:
    """A record for every call of wandb.log; one cut off at the end belongs to a run still going on."""
    for message in _messages(data, name):
        try:
            if record := _history(message):
                yield record
        except (IndexError, ValueError):
            raise UserError("damaged file of Weights & Biases", where=name) from None


def _messages(data: bytes, name: str) -> Iterator[bytes]:
    place, parts = _START, list[bytes]()
    while place + _HEADER.size <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER.size:
            place += left  # too little for a header: zeros
            continue
        checksum, length, kind = _HEADER.unpack_from(data, place)
        end = place + _HEADER.size + length
        if end > len(data):
            return
        content = data[place + _HEADER.size : end]
        if zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum:
            if not any(data[place:]):
                return  # room that was reserved and not yet written
            raise UserError(f"damaged: the checksum of the record at byte {place} does not match", where=name,
                            hint="copy the file again")  # fmt: skip
        if kind in (_WHOLE, _FIRST):
            parts = []
        parts.append(content)
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
        place = end


def _history(message: bytes) -> Record | None:
    record: dict[str, Any] = {}
    for number, value in fields(message):
        if number == _HISTORY and isinstance(value, bytes):
            for part, item in fields(value):
                if part == _ITEM and isinstance(item, bytes):
                    record.update([_item(item)])
    return record or None


def _item(message: bytes) -> tuple[str, Any]:
    key, nested, text = "", [], "null"
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if number == _KEY:
            key = value.decode("utf-8", "replace")
        elif number == _NESTED:
            nested.append(value.decode("utf-8", "replace"))
        elif number == _VALUE:
            text = value.decode("utf-8", "replace")
    return key or "/".join(nested), parse_json(text)
