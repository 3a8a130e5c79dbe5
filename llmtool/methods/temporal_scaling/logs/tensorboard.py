"""TensorBoard event files without tensorflow or tensorboard: the record framing and six protobuf fields.

A record is length (u64), its checksum (u32), the event, its checksum (u32). Read: Event{wall_time = 1, step = 2,
summary = 5}, Summary{value = 1}, Value{tag = 1, simple_value = 2, tensor = 8}, TensorProto{content = 4, float_val = 5}.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.protobuf import fields
from llmtool.methods.temporal_scaling.logs.columns import Record

_HEADER = 12
_CASTAGNOLI = 0x82F63B78
_VERSION = b"brain.Event:"


def is_event_file(data: bytes) -> bool:
    """Whether the first record announces the format."""
    return _VERSION in data[_HEADER : _HEADER + 64]


def read(data: bytes, name: str) -> Iterator[Record]:
    """A record for every event that carries a scalar; one cut off at the end belongs to a run still going on."""
    events, checks = [], []
    place = 0
    while place + _HEADER <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + _HEADER + length + 4
        if end > len(data):
            # A length that is damaged must not pass for the end of the file.
            _verify([data[place : place + 8]], [data[place + 8 : place + _HEADER]], [place], name)
            break
        events.append(data[place + _HEADER : end - 4])
        checks.append((data[place : place + 8], data[place + 8 : place + _HEADER], data[end - 4 : end], place))
        place = end
    _verify([each[0] for each in checks], [each[1] for each in checks], [each[3] for each in checks], name)
    _verify(events, [each[2] for each in checks], [each[3] for each in checks], name)
    try:
        for event in events:
            if record := _record(event):
                yield record
    except (struct.error, IndexError, ValueError):
        raise UserError("damaged TensorBoard event file", where=name) from None


def _verify(contents: list[bytes], sums: list[bytes], places: list[int], name: str) -> None:
    """Compare the masked checksums of some contents with those in the file."""
    by_length: dict[int, list[int]] = {}
    for at, content in enumerate(contents):
        by_length.setdefault(len(content), []).append(at)
    for length, members in by_length.items():
        block = np.frombuffer(b"".join(contents[at] for at in members), dtype=np.uint8).reshape(len(members), length)
        held = np.frombuffer(b"".join(sums[at] for at in members), dtype="<u4")
        wrong = np.flatnonzero(masked_checksums(block) != held)
        if len(wrong):
            raise UserError(f"damaged: the checksum of the record at byte {places[members[wrong[0]]]} does not match",
                            where=name, hint="copy the event file again")  # fmt: skip


def masked_checksums(block: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """CRC-32C of each row [N, length], rotated and shifted as TensorFlow masks it; a column at a time."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_CASTAGNOLI), table >> 1)
    crc = np.full(len(block), 0xFFFFFFFF, dtype=np.uint32)
    for column in block.T:
        crc = table[(crc ^ column) & 255] ^ crc >> 8
    crc = ~crc
    return np.asarray((crc >> 15 | crc << 17) + np.uint32(0xA282EAD8), dtype=np.uint32)


def _record(event: bytes) -> Record | None:
    step, clock = 0, None
    record: dict[str, float] = {}
    for number, value in fields(event):
        if number == 1 and isinstance(value, bytes):
            (clock,) = struct.unpack("<d", value)
        elif number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            for part, content in fields(value):
                if part == 1 and isinstance(content, bytes):
                    record.update(_scalar(content))
    return {**record, "step": step, "wall_time": clock} if record else None


def _scalar(message: bytes) -> dict[str, float]:
    tag, scalar = "", None
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            tag = value.decode("utf-8", "replace")
        elif number == 2:
            (scalar,) = struct.unpack("<f", value)
        elif number == 8:
            scalar = _tensor(value)
    return {} if scalar is None else {tag: scalar}


def _tensor(message: bytes) -> float | None:
    """The one float32 of a tensor, as content or as a repeated field."""
    for number, value in fields(message):
        if number in (4, 5) and isinstance(value, bytes) and len(value) == 4:
            (scalar,) = struct.unpack("<f", value)
            return float(scalar)
    return None
