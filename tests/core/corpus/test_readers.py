"""The reader as a whole: formats told by content, the same documents however they are packed, one-line failures."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import zstandard

from llmtool.core.corpus.inputs import find_inputs
from llmtool.core.corpus.plans import plan_units
from llmtool.core.corpus.readers import (
    Document,
    Reading,
    ReadReport,
    read_documents,
    read_streams,
    total_bytes,
)
from llmtool.core.run.errors import UserError

TEXTS = ["first text", "второй", "第三 🙂\nsecond line"]
JSONL = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
PLAIN = ("A line of plain text, with numbers 123.\n" * 80_000).encode()  # 3.2 MB: several blocks

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def texts(inputs: list[str | Path], **options: Any) -> list[bytes]:
    """Whole documents: blocks joined."""
    found = [b""]
    for document in read_documents(inputs, **options):
        found[-1] += document.text
        if not document.more:
            found.append(b"")
    assert found.pop() == b""
    return found


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))


@pytest.mark.parametrize("suffix", PACKERS)
def test_packing_changes_nothing(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = put(tmp_path / "plain.txt", PLAIN)
    expected = list(read_documents([plain]))
    assert len(expected) > 2
    packed = put(tmp_path / f"packed.txt{suffix}", PACKERS[suffix](PLAIN))
    renamed = put(tmp_path / "renamed", packed.read_bytes())  # content decides, not the name
    for path in (packed, renamed):
        assert [(d.text, d.row, d.more) for d in read_documents([path])] == [(d.text, d.row, d.more) for d in expected]
    stdin(monkeypatch, packed.read_bytes())
    assert [d.text for d in read_documents(["-"])] == [d.text for d in expected]
    assert b"".join(d.text for d in expected) == PLAIN


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["c.jsonl", "C.JSONL", "c.ndjson", "c.json"])
def test_jsonl_by_its_name(name: str, suffix: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"{name}{suffix}", PACKERS[suffix](JSONL))
    assert list(read_documents([path])) == [Document(t.encode(), str(path), row) for row, t in enumerate(TEXTS, 1)]
    assert texts([path], format="text") == [JSONL]


@pytest.mark.parametrize("suffix", PACKERS)
def test_jsonl_on_standard_input(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [text.encode() for text in TEXTS]
    for data, options, result in (
        (JSONL, {}, expected),
        (b"\n  " + JSONL, {}, expected),
        (b"\xef\xbb\xbf" + JSONL, {}, expected),
        (JSONL, {"format": "text"}, [JSONL]),
        (b"text {" + JSONL, {}, [b"text {" + JSONL]),
        (b"# comment\n" + JSONL, {"format": "jsonl"}, expected),
    ):
        stdin(monkeypatch, PACKERS[suffix](data))
        assert texts(["-"], **options) == result


@pytest.mark.parametrize(
    "data", [b'{\n "text": a\n}\n', b"{ int x; }\n", b"{{ text }}\n", b'{"text"\n', b"[1, 2]\n", b"[[]]"]
)
def test_a_file_that_begins_like_json_is_text(data: bytes, tmp_path: Path) -> None:
    for name in ("f.c", "f.json", "f"):
        assert texts([put(tmp_path / name, data)]) == [data]


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[gzip.compress(JSONL)])
    writer.start()
    assert texts([tmp_path / "pipe"]) == [text.encode() for text in TEXTS]
    writer.join()


def test_one_document_a_line(tmp_path: Path) -> None:
    path = put(tmp_path / "f.txt.gz", gzip.compress(b"a\nb c\r\n\nd"))
    assert list(read_documents([path], text_mode="line")) == [
        Document(text, str(path), row) for row, text in enumerate([b"a", b"b c", b"", b"d"], start=1)
    ]


def test_whole_documents_are_not_cut(tmp_path: Path) -> None:
    path = put(tmp_path / "f", PLAIN)
    assert list(read_documents([path], whole=True)) == [Document(PLAIN, str(path), 1)]


def test_parquet_by_its_content(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.txt"
    pq.write_table(pa.table({"body": TEXTS}), path)
    reported: list[int] = []
    documents = list(read_documents([path], field="body", on_bytes=reported.append))
    assert documents == [Document(t.encode(), str(path), row) for row, t in enumerate(TEXTS, 1)]
    assert sum(reported) == path.stat().st_size
    with pytest.raises(UserError, match="not a readable Parquet file"):
        texts([put(tmp_path / "text", b"text")], format="parquet")


def test_parquet_needs_a_plain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = r": Parquet can be read only from a plain file"
    for form in ("auto", "parquet"):
        stdin(monkeypatch, b"PAR1 and so on")
        with pytest.raises(UserError, match="^-" + line):
            texts(["-"], format=form)
    with pytest.raises(UserError, match=line):
        texts([put(tmp_path / "f.gz", gzip.compress(b"PAR1 and so on"))])


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pyarrow is needed to read Parquet \(pip install 'llmtool\[parquet\]'\)"):
        texts([put(tmp_path / "f", b"PAR1 and so on")])


def test_directories_hold_more_than_text(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", b"one")
    put(tmp_path / "b/c.jsonl.gz", gzip.compress(JSONL))
    put(tmp_path / "b/empty.py", b"")
    picture = put(tmp_path / "b/picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    archive = put(tmp_path / "b/texts.zip", b"PK\x03\x04\x14" + bytes(300))
    report = ReadReport()
    assert texts([tmp_path], report=report) == [b"one", *(text.encode() for text in TEXTS)]
    assert report.first == [(str(picture), "not text (NUL bytes)"), (str(archive), "zip files are not read")]
    assert texts([tmp_path], strict=True)  # strict is about rows
    assert texts([picture]) == [picture.read_bytes()]  # named: any bytes can be encoded


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("zip", b"PK\x03\x04\0"),
        ("lz4", b"\x04\x22M\x18d"),
        ("7-Zip", b"7z\xbc\xaf\x27\x1c"),
        ("RAR", b"Rar!\x1a\x07\1\0"),
    ],
)
def test_other_archives_are_refused_by_name(kind: str, data: bytes, tmp_path: Path) -> None:
    path = put(tmp_path / "f.txt", data)
    with pytest.raises(UserError, match=rf"f.txt: {kind} files are not read \(unpack it first"):
        texts([path])
    assert texts([path], format="text") == [data]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (r"ar files \(.deb, .a\) are not read \(unpack", b"!<arch>\ndebian-binary   "),
        (r"PDF files are not read \(extract its text", b"%PDF-1.7\n"),
        (r"SQLite files are not read \(export its rows", b"SQLite format 3\0\x10\0"),
        (r"Avro files are not read \(convert it to Parquet", b"Obj\x01\x04\x14avro.codec"),
        (r"ORC files are not read \(convert it to Parquet", b"ORC\x07\0\0"),
        (r"HDF5 files are not read \(export its text", b"\x89HDF\r\n\x1a\n\0"),
        (r"arrays of NumPy are no text \(name a file of text", b"\x93NUMPY\x01\0"),
    ],
)
def test_data_of_other_programs_is_refused_by_name(line: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        texts([put(tmp_path / "f.txt", data)])
    put(tmp_path / "good.txt", b"text")
    assert texts([tmp_path]) == [b"text"]


def test_an_array_of_ids_is_no_text_where_its_sidecar_says_so(tmp_path: Path) -> None:
    """Ids of two bytes would pass for Latin-1; a bare .bin may be anything, and is read as before."""
    place = put(tmp_path / "ids.bin", "caf\xe9 au lait".encode("latin-1"))
    assert texts([place]) == [place.read_bytes()]
    put(tmp_path / "ids.bin.json", b'{"schema": "llmtool.tokens/1", "tokens": 6, "dtype": "uint16"}')
    with pytest.raises(UserError, match=r"ids\.bin: token ids are no text \(give the text"):
        texts([place])
    assert texts([place], format="text") == [place.read_bytes()]
    put(tmp_path / "good.txt", b"text")
    report = ReadReport()
    read = [document.text for document in read_documents([tmp_path], report=report, include=["*.bin", "*.txt"])]
    assert (read, report.count) == ([b"text"], 1)


def test_bytes_read_add_up(tmp_path: Path) -> None:
    for suffix, pack in PACKERS.items():
        put(tmp_path / f"plain{suffix}", pack(PLAIN))
        put(tmp_path / f"rows.jsonl{suffix}", pack(JSONL))
    put(tmp_path / "binary", bytes(3_000_000))
    reported: list[int] = []
    texts([tmp_path], on_bytes=reported.append)
    assert sum(reported) == total_bytes([tmp_path])
    assert min(reported) > 0


def test_the_limit_counts_text_and_ends_a_document(tmp_path: Path) -> None:
    path = put(tmp_path / "f.jsonl.gz", gzip.compress(JSONL))
    sizes = [len(text.encode()) for text in TEXTS]
    for limit, number in ((1, 1), (sizes[0], 1), (sizes[0] + 1, 2), (sum(sizes), 3), (10**9, 3)):
        assert len(texts([path], limit_bytes=limit)) == number
    plain = put(tmp_path / "plain", PLAIN)
    parts = list(read_documents([plain], limit_bytes=1_500_000))
    assert [part.more for part in parts] == [True, False]
    assert 1_500_000 <= sum(len(part.text) for part in parts) < 1_500_000 + (1 << 20)
    packed = put(tmp_path / "packed", gzip.compress(PLAIN))
    assert [part.text for part in read_documents([packed], limit_bytes=1_500_000)] == [part.text for part in parts]


def test_no_text_is_an_error_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = put(tmp_path / "d/empty", b"")
    rows = put(tmp_path / "rows.jsonl", b'{"body": "a"}\n{"body": "b"}\n')
    stdin(monkeypatch, b"")
    cases: list[tuple[list[str | Path], str]] = [
        ([empty], r"empty: no text found: the input is empty$"),
        ([tmp_path / "d", put(tmp_path / "void", b"")], r"empty and 1 more: no text found"),
        (["-"], r"^-: no text found"),
        ([rows], r"rows.jsonl:1: no text found; 2 rows or files skipped, the first: no field 'text'.*'body'"),
        ([put(tmp_path / "blank.jsonl", b'{"text": ""}\n')], r"no text found: the input is empty"),
    ]
    for inputs, line in cases:
        with pytest.raises(UserError, match=line):
            texts(inputs)


def test_strict_is_fatal_at_the_first_bad_row(tmp_path: Path) -> None:
    path = put(tmp_path / "f.jsonl", JSONL + b"{\n" + JSONL)
    report = ReadReport()
    assert len(texts([path], report=report)) == 2 * len(TEXTS)
    assert report.first[0][0] == f"{path}:{len(TEXTS) + 1}"
    with pytest.raises(UserError, match=rf"f.jsonl:{len(TEXTS) + 1}: not valid JSON: .* \("):
        texts([path], strict=True)


def test_inputs_are_checked_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="no input"):
        read_documents([])


def test_importing_the_readers_is_cheap() -> None:
    heavy = ("numpy", "pyarrow", "zstandard", "regex", "gzip")
    code = f"import sys, llmtool.core.corpus.readers; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_units_inside_a_file_are_the_rows_of_the_file(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"row {n} ".ljust(n % 97, "x")}) + "\n" * (1 + n % 3) for n in range(3000))
    path = put(tmp_path / "big", b"\xef\xbb\xbf" + rows.encode() + b'{"broken": \n{"text": "last"}')
    small = put(tmp_path / "small.txt", b"a\nb")
    for size in (1000, 7777, 40_000, 10**9):
        reading = Reading(text_mode="line")
        units = plan_units(find_inputs([path, small]), reading, size)
        assert len(units) == 1 if size == 10**9 else len(units) > 3
        report = ReadReport()
        found = [(d.text, d.source, d.row) for unit in units for d in read_streams(unit, reading, report=report)]
        assert found == [(d.text, d.source, d.row) for d in read_documents([path, small], reading)]
        assert report.first[0][0] == f"{path}:{rows.count(chr(10)) + 1}"
        assert sum(part.size or 0 for unit in units for part in unit) == path.stat().st_size + 3
    lines = put(tmp_path / "lines", b"".join(b"%d\r\n" % n for n in range(5000)))
    units = plan_units(find_inputs([lines]), Reading(text_mode="line"), 1000)
    found_rows = [(d.text, d.row) for unit in units for d in read_streams(unit, text_mode="line", report=ReadReport())]
    assert found_rows == [(b"%d" % n, n + 1) for n in range(5000)]
    assert len(units) > 20
    assert plan_units(find_inputs([lines]), Reading(), 1000) == [find_inputs([lines])]
