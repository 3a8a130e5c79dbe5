"""Parts of packed files: the rows of the file, whatever its members, each byte unpacked once by one reader."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.corpus import compression, cuts
from llmtool.core.corpus.blocks import safe_cut
from llmtool.core.corpus.cuts import Separators, Unpacked, together
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import Input, find_inputs
from llmtool.core.corpus.plans import PLAN, kept_units, plan_units
from llmtool.core.corpus.readers import Reading, read_documents, read_streams
from llmtool.core.corpus.shards import Stage
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


@given(
    text=st.text("ab\n", max_size=60).map(str.encode),
    separator=st.sampled_from([b"a", b"aa", b"aba", b"\n\n"]),
    borders=st.lists(st.integers(0, 60)),
    place=st.integers(1, 60),
)
def test_ends_of_separators_are_those_of_the_reader(
    text: bytes, separator: bytes, borders: list[int], place: int
) -> None:
    """However the bytes come: `aaa` holds one `aa`, and the last `a` begins none."""
    wanted, at = [], 0
    for part in text.split(separator)[:-1]:
        at += len(part) + len(separator)
        wanted.append(at)
    ends, found, rows, base = Separators(separator), set(), 0, 0
    bounds = sorted({0, *(border for border in borders if border < len(text)), len(text)})
    for start, end in pairwise(bounds):
        ends.take(text[start:end])
        first = ends.after(place)
        assert first == next((e - base for e in wanted if start < e <= end and e - base >= place), None)
        if first is not None:
            found.add(base + first)
            rows += ends.until(first)
            assert rows == sum(e <= base + first for e in wanted)
        rows += ends.until(None)
        base = end
    assert found <= set(wanted)
    assert rows == len(wanted)


def test_parquet_is_cut_at_row_groups(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    draw = random.Random(0)
    table = pa.table({"id": range(1000), "text": [draw.randbytes(100).hex() for _ in range(1000)]})
    pq.write_table(table, path := tmp_path / "rows.parquet", row_group_size=90)
    wanted = [(d.text, d.row, d.id) for d in read_documents([path])]
    assert [row for _, row, _ in wanted] == list(range(1, 1001))
    units = plan_units(find_inputs([path]), Reading(), 30_000)
    assert len(units) > 3
    assert [part.first_row % 90 for unit in units for part in unit] == [0] * len(units)
    for order in (units, units[::-1]):
        found = [[(d.text, d.row, d.id) for d in read_streams(unit, report=ReadReport())] for unit in order]
        assert sorted(sum(found, []), key=lambda each: each[1]) == wanted
    report = ReadReport()
    for unit in units:
        list(read_streams(unit, report=report))
    assert (report.files, report.rows) == ({"parquet": 1}, {"parquet": 1000})


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_are_cut_at_samples(form: int, tmp_path: Path) -> None:
    path, draw = tmp_path / "set.tar", random.Random(0)
    with tarfile.open(path, "w", format=form) as file:
        for number in range(300):
            # Beyond the header's 100 bytes: what the name takes stands in front of it. Old tars have no such names.
            folder = "é" * (60 * (number % 2) * (form != tarfile.USTAR_FORMAT))
            for suffix in ("txt", "json", "cls"):
                data = b'{"n": 1}' if suffix == "json" else draw.randbytes(draw.randrange(2000)).hex().encode()
                info = tarfile.TarInfo(f"d{number % 7}/{folder}{number:04d}.{suffix}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
            file.addfile(tarfile.TarInfo(f"d{number % 7}/.hidden"))
    wanted = [(d.text, d.row, d.id) for d in read_documents([path])]
    units = plan_units(find_inputs([path]), Reading(), 100_000)
    assert len(units) > 5
    found = [(d.text, d.row, d.id) for unit in units for d in read_streams(unit, report=ReadReport())]
    assert found == wanted
    assert [row for _, row, _ in found] == list(range(1, 301))
    *_, last = (part for unit in units for part in unit)
    whole = path.read_bytes()
    for cut in (last.end, -100_000):  # between two members, and inside one
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"set.tar: not a readable tar"):
            plan_units(find_inputs([path]), Reading(), 100_000)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_is_cut_at_separators(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Those of fortune files, whose separator holds the mark of a line twice."""
    draw = random.Random(0)
    parts = ["%\n" * draw.randrange(3) + draw.randbytes(draw.randrange(400)).hex() + "\n" for _ in range(9000)]
    (path := tmp_path / "fortunes").write_bytes(pack("\n%\n".join(parts).encode()))
    reading = Reading(document_separator="\n%\n")
    wanted = [(d.text, d.row) for d in read_documents([path], reading, whole=True)]
    units = plan_units(find_inputs([path]), reading, path.stat().st_size // 5)
    assert len(units) > 2
    unpacked = Unpacked()
    found = [
        (d.text, d.row) for unit in units for d in read_streams(unit, reading, report=ReadReport(), unpacked=unpacked)
    ]
    assert found == wanted


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_document_is_cut_where_it_is_asked_for(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    text = "".join(f"строка {number} of text. " + "x" * (number % 50) + "\n" for number in range(90_000)).encode()
    (path := tmp_path / "novel.txt").write_bytes(pack(text))
    size = path.stat().st_size // 4
    assert len(plan_units(find_inputs([path]), Reading(), size)) == 1
    units = plan_units(find_inputs([path]), Reading(), size, inside=True)
    parts = [part for unit in units for part in unit]
    assert len(parts) > 2
    assert [part.begun for part in parts] == [False] + [True] * (len(parts) - 1)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    unpacked, report = Unpacked(), ReadReport()
    found = [list(read_streams([part], whole=False, report=report, unpacked=unpacked)) for part in parts]
    assert b"".join(document.text for documents in found for document in documents) == text
    assert [documents[-1].more for documents in found] == [part.more for part in parts]
    assert {document.row for documents in found for document in documents} == {1}
    assert (report.files, report.rows) == ({"text": 1}, {"text": 1})
    for one, other in pairwise(found):
        assert safe_cut(one[-1].text[-40:] + other[0].text[:1]) == len(one[-1].text[-40:])


def test_a_plan_is_kept(tmp_path: Path) -> None:
    """Read again as it was made, also where a part of a packed file has a place in it; a damaged one is made again."""
    (path := tmp_path / "data.jsonl.gz").write_bytes(pack(rows(), "gzip members"))
    (other := tmp_path / "b\udc80.txt").write_bytes(b"text")
    stage = Stage(tmp_path / "stage", {"stage": "x"})
    stage.begin()
    wanted = plan_units(find_inputs([path, other]), Reading(), 60_000)
    made: list[int] = []

    def plan() -> list[list[Input]]:
        made.append(1)
        return wanted

    for _ in range(3):
        assert kept_units(stage, plan) == wanted
    assert len(made) == 1
    (stage.directory / PLAN).write_text("{}")
    assert kept_units(stage, plan) == wanted
    assert len(made) == 2
