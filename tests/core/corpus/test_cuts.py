"""Parts of packed files: the rows of the file, whatever its members, each byte unpacked once by one reader."""

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from llmtool.core.corpus import compression, cuts
from llmtool.core.corpus.cuts import Unpacked, together
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import find_inputs
from llmtool.core.corpus.readers import Reading, plan_units, read_documents, read_streams
from llmtool.core.run.errors import UserError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """gzip gives 1 MiB at a time, and a part is a block at least."""
    monkeypatch.setattr(compression, "BLOCK", 1 << 15)


def rows(count: int = 20_000) -> bytes:
    draw = random.Random(0)
    found = [json.dumps({"text": f"row {n} " + draw.randbytes(draw.randrange(90)).hex()}) for n in range(count)]
    return "".join(row + "\n" * (1 + n % 3) for n, row in enumerate(found)).encode() + b'{"text": "last"}'


def members(data: bytes, size: int) -> Iterator[bytes]:
    """Cut anywhere, in the middle of lines too."""
    return (data[start : start + size] for start in range(0, len(data), size))


def pack(data: bytes, how: str) -> bytes:
    zstd = zstandard.ZstdCompressor(level=1)
    if how == "gzip":
        return gzip.compress(data, 1)
    if how == "gzip members":  # bgzip, `cat a.gz b.gz`
        return b"".join(gzip.compress(part, 1) for part in members(data, 30_000)) + bytes(700)
    if how == "bzip2 streams":  # pbzip2
        return b"".join(bz2.compress(part, 1) for part in members(data, 30_000))
    if how == "xz":
        return lzma.compress(data, preset=0)
    if how == "zstd":
        return bytes(zstd.compress(data))
    if how == "one big frame, then small ones":
        return bytes(zstd.compress(data[:400_000])) + b"".join(
            zstd.compress(part) for part in members(data[400_000:], 9000)
        )
    # pzstd: a skippable frame with the size stands before each frame
    frames = [zstd.compress(part) for part in members(data, 30_000)]
    return b"".join(b"\x50\x2a\x4d\x18\4\0\0\0" + len(frame).to_bytes(4, "little") + frame for frame in frames)


PACKED = ["gzip", "gzip members", "zstd", "one big frame, then small ones", "zstd frames", "bzip2 streams", "xz"]


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("size", [60_000, 300_000, 10**9])
def test_parts_of_a_packed_file_are_its_rows(how: str, size: int, tmp_path: Path) -> None:
    path, small = tmp_path / "data.jsonl.packed", tmp_path / "small.jsonl"
    path.write_bytes(pack(rows(), how))
    small.write_text('{"text": "another file"}\n')
    streams = find_inputs([path, small])
    units = plan_units(streams, Reading(), size)
    disk = path.stat().st_size
    assert len(units) == 1 if size > disk else 0.4 * disk / size < len(units) <= disk / size + 1
    assert sum(part.size or 0 for unit in units for part in unit) == disk + small.stat().st_size - 700 * (
        how == "gzip members" and size < disk
    )
    wanted = [(d.text, d.source, d.row) for d in read_documents([path, small])]
    unpacked = Unpacked()
    for order in (range(len(units)), random.Random(1).sample(range(len(units)), len(units))):
        found = {n: list(read_streams(units[n], report=ReadReport(), unpacked=unpacked)) for n in order}
        rows_of = {n: [(d.text, d.source, d.row) for d in documents] for n, documents in found.items()}
        assert [row for number in range(len(units)) for row in rows_of[number]] == wanted


@pytest.mark.parametrize("how", PACKED)
def test_tasks_unpack_every_byte_about_once(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.jsonl.packed"
    path.write_bytes(pack(data := rows(), how))
    units = plan_units(find_inputs([path]), Reading(), 60_000)
    tasks = together(units, range(len(units)))
    assert [unit for task in tasks for unit in task] == list(range(len(units)))
    assert len(tasks) == 1 if how in ("gzip", "zstd", "xz") else len(tasks) > 4
    unpack, given = compression.unpack, 0

    def counted(*arguments: object) -> Iterator[bytes]:
        nonlocal given
        for block in unpack(*arguments):  # type: ignore[arg-type]
            given += len(block)
            yield block

    monkeypatch.setattr(cuts, "unpack", counted)
    for task in tasks:
        unpacked = Unpacked()
        for unit in task:
            assert list(read_streams(units[unit], report=ReadReport(), unpacked=unpacked))
    again = 450_000 if how.startswith("one") else 35_000 + (1 << 17)  # up to a member, and a block of Zstandard
    assert len(data) <= given <= len(data) + len(tasks) * again
    every_third = together(units, range(0, len(units), 3))  # --part 1/3
    assert sorted(unit for task in every_third for unit in task) == list(range(0, len(units), 3))


def test_lines_of_packed_text_and_what_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d %d\r\n" % (n, n * n) for n in range(90_000)), 1))
    lines = Reading(text_mode="line")
    units = plan_units(find_inputs([path]), lines, 65_536)
    assert len(units) > 4
    unpacked = Unpacked()
    found = [d for unit in units for d in read_streams(unit, lines, report=ReadReport(), unpacked=unpacked)]
    assert [(d.row, d.text) for d in found] == [(n + 1, b"%d %d" % (n, n * n)) for n in range(90_000)]
    assert len(plan_units(find_inputs([path]), Reading(), 65_536)) == 1  # one document
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"lines.gz: the gzip stream ends too early"):
        plan_units(find_inputs([path]), lines, 65_536)
