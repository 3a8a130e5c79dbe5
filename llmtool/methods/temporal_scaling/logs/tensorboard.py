"""TensorBoard event files without tensorflow or tensorboard: the record framing and six protobuf fields.

A record is length (u64), its checksum (u32), the event, its checksum (u32). Read: Event{wall_time = 1, step = 2,
summary = 5}, Summary{value = 1}, Value{tag = 1, simple_value = 2, tensor = 8}, TensorProto{content = 4, float_val = 5}.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.row import Row, from_mapping

_HEADER = 12
_VERSION = b"brain.Event:"


@dataclass(frozen=True)
class _Field:
    number: int
    value: int | bytes


def is_event_file(data: bytes) -> bool:
    """Whether the first record announces the format."""
    return _VERSION in data[_HEADER : _HEADER + 64]


def read(data: bytes, name: str) -> Iterator[Row]:
    """A row for every event that carries a scalar; a record cut off at the end belongs to a run still going on."""
    try:
        for event in _records(data):
            if row := _row(event):
                yield row
    except (struct.error, IndexError, ValueError):
        raise UserError("damaged TensorBoard event file", where=name) from None


def _records(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + _HEADER <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + _HEADER + length + 4
        if end > len(data):
            return
        yield data[place + _HEADER : end - 4]
        place = end


def _row(event: bytes) -> Row | None:
    step, clock = 0, None
    record: dict[str, float] = {}
    for field in _fields(event):
        if field.number == 1 and isinstance(field.value, bytes):
            (clock,) = struct.unpack("<d", field.value)
        elif field.number == 2 and isinstance(field.value, int):
            step = field.value
        elif field.number == 5 and isinstance(field.value, bytes):
            for part in _fields(field.value):
                if part.number == 1 and isinstance(part.value, bytes):
                    record.update(_scalar(part.value))
    row = from_mapping({**record, "step": step, "time": clock}) if record else None
    return row if row is not None and not row.empty else None


def _scalar(value: bytes) -> dict[str, float]:
    tag, number = "", None
    for field in _fields(value):
        if not isinstance(field.value, bytes):
            continue
        if field.number == 1:
            tag = field.value.decode("utf-8", "replace")
        elif field.number == 2:
            (number,) = struct.unpack("<f", field.value)
        elif field.number == 8:
            number = _tensor(field.value)
    return {} if number is None else {tag: number}


def _tensor(value: bytes) -> float | None:
    """The one float32 of a tensor, as content or as a repeated field."""
    for field in _fields(value):
        if field.number in (4, 5) and isinstance(field.value, bytes) and len(field.value) == 4:
            (number,) = struct.unpack("<f", field.value)
            return float(number)
    return None


def _fields(message: bytes) -> Iterator[_Field]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield _Field(key >> 3, number)
            continue
        length, place = _varint(message, place) if kind == 2 else ({1: 8, 5: 4}[kind] if kind in (1, 5) else -1, place)
        if length < 0 or place + length > len(message):
            raise ValueError
        yield _Field(key >> 3, message[place : place + length])
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError
