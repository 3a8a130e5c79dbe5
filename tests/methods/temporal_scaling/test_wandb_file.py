"""Files of Weights & Biases, written here as its program writes them: frames over blocks, cuts and damage."""

import json
import struct
import zlib
from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import NotYetError, read_log

BLOCK = 1 << 15


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def history(number: int, row: dict[str, object], nested: bool = False) -> bytes:
    items = b""
    for key, value in row.items():
        names = b"".join(field(2, part.encode()) for part in key.split("/")) if nested else field(1, key.encode())
        items += field(1, names + field(16, json.dumps(value).encode()))
    return field(1, number) + field(2, items)


def framed(messages: list[bytes]) -> bytes:
    """LevelDB's log: what a block cannot hold goes on in the next one; no header in a block's last six bytes."""
    out = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for message in messages:
        first, rest = True, message
        while first or rest:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                left = BLOCK
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
    return out


def rows(count: int, wide: int = 0) -> list[dict[str, object]]:
    more = {f"weights/{n}": "x" * 500 for n in range(wide)}
    return [{"train/loss": 4 - n / 100, "train/global_step": 10 * n + 10, "_step": n, "_runtime": 2.0 * n, **more}
            for n in range(count)]  # fmt: skip


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("wide", [0, 150])
@pytest.mark.parametrize("nested", [False, True])
def test_histories_are_read(tmp_path: Path, wide: int, nested: bool) -> None:
    """With 150 long values each, every record goes on in other blocks."""
    messages = [field(17, field(1, b"a run")), *(history(n, row, nested) for n, row in enumerate(rows(100, wide)))]
    log = read_log(made(tmp_path / "run-abc.wandb", framed(messages)))
    assert log.losses["train"].steps.tolist() == [10 * n + 10 for n in range(100)]
    assert log.losses["train"].values.tolist() == [4 - n / 100 for n in range(100)]
    assert log.seconds_per_step == pytest.approx(0.2)
    assert read_log(tmp_path).losses["train"].values.tolist() == log.losses["train"].values.tolist()


@pytest.mark.parametrize("short", [10, 7, 20, 100])
def test_a_block_whose_end_holds_no_header(tmp_path: Path, short: int) -> None:
    filler = field(17, b"x" * (BLOCK - 7 - 7 - short))
    log = read_log(made(tmp_path / "a", framed([filler, *(history(n, row) for n, row in enumerate(rows(9)))])))
    assert len(log.losses["train"]) == 9


def test_a_run_still_going_on_ends_in_the_middle_of_a_record(tmp_path: Path) -> None:
    data = framed([history(n, row) for n, row in enumerate(rows(9))])
    for cut in range(1, 70, 7):
        assert len(read_log(made(tmp_path / "a", data[:-cut])).losses["train"]) == 8
    assert len(read_log(made(tmp_path / "a", data + bytes(200))).losses["train"]) == 9
    with pytest.raises(NotYetError):
        read_log(made(tmp_path / "a", data[:30]))


def test_a_record_that_was_begun_and_never_ended_is_left_out(tmp_path: Path) -> None:
    """As a program that was killed leaves it, before it is resumed in the same file."""
    begun = history(0, {"loss": 9.0, "step": 5})
    torn = struct.pack("<IHB", zlib.crc32(b"\x02" + begun[:20]), 20, 2) + begun[:20]
    whole = framed([history(n, row) for n, row in enumerate(rows(3))])
    log = read_log(made(tmp_path / "a", whole[:7] + torn + whole[7:]))
    assert log.losses["train"].values.tolist() == [4 - n / 100 for n in range(3)]


def test_damage_is_told(tmp_path: Path) -> None:
    data = bytearray(framed([history(n, row) for n, row in enumerate(rows(9))]))
    data[200] ^= 1
    with pytest.raises(UserError, match=r"checksum of the record at byte \d+ does not match .*copy the file again"):
        read_log(made(tmp_path / "a", bytes(data)))
    for message in (field(2, b"\x0a\xff"), field(2, field(1, field(1, b"loss") + field(16, b"{")))):
        with pytest.raises(UserError, match="damaged file of Weights & Biases"):
            read_log(made(tmp_path / "a", framed([message])))
