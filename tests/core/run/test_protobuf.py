"""The wire format, by hand from its definition."""

import struct

import pytest

from llmtool.core.run.protobuf import fields


def test_each_wire_type() -> None:
    message = b"\x08\x96\x01" + b"\x12\x07testing" + b"\x1d" + struct.pack("<f", 1.5) + b"\x21" + struct.pack("<d", 2.5)
    assert list(fields(message)) == [
        (1, 150),
        (2, b"testing"),
        (3, struct.pack("<f", 1.5)),
        (4, struct.pack("<d", 2.5)),
    ]
    assert list(fields(b"\x82\x01\x00")) == [(16, b"")]
    assert list(fields(b"\x08" + b"\xff" * 9 + b"\x01")) == [(1, (1 << 64) - 1)]
    assert list(fields(b"")) == []


@pytest.mark.parametrize(
    "message, said",
    [
        (b"\x08", "a number is cut short"),
        (b"\x08\x96", "a number is cut short"),
        (b"\x12\x07test", "a field is cut short"),
        (b"\x1d\x00\x00", "a field is cut short"),
        (b"\x0b", "wire type 3"),
        (b"\x08" + b"\x80" * 11, "over ten bytes"),
    ],
)
def test_what_is_no_message(message: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(fields(message))
