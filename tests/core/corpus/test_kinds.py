"""What a file is, told by its content: every kind under names that say nothing, or something else."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import read_documents
from llmtool.core.run.errors import UserError

ROWS = [{"text": f"row {number}", "id": number} for number in range(20)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TEXTS = [str(row["text"]).encode() for row in ROWS]


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read(path: Path, **options: Any) -> tuple[list[bytes], ReadReport]:
    report = ReadReport()
    return [document.text for document in read_documents([path], report=report, **options)], report


@pytest.mark.parametrize(
    "name",
    [
        "x.jsonl.zstd",
        "x.jsonl.gz",
        "part-00000",
        "part-00000.gz",
        "data.jsonl.1",
        "shard_3",
        "a.txt",
        "x.json",
        "x.jsonlines",
    ],
)
def test_rows_of_json_under_any_name(name: str, tmp_path: Path) -> None:
    pack = zstandard.compress if "zst" in name else gzip.compress if "gz" in name else bytes
    path = tmp_path / name
    path.write_bytes(pack(JSONL))
    for place in (path, tmp_path):
        texts, report = read(place)
        assert texts == TEXTS
        assert (report.files, report.rows, report.count) == ({"jsonl": 1}, {"jsonl": 20}, 0)
    assert report.taken() == "read 1 file as JSONL (20 rows)"


def test_a_row_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    rows = [{"meta": 1, "text": "x" * 300_000}, {"meta": 2, "text": "y" * 300_000}]
    (tmp_path / "part-0").write_text("\n".join(map(json.dumps, rows)))
    for place in (tmp_path, tmp_path / "part-0"):
        assert [text[:1] for text in read(place)[0]] == [b"x", b"y"]


def test_an_array_is_rows(tmp_path: Path) -> None:
    (tmp_path / "array").write_text(json.dumps(ROWS, indent=1))
    texts, report = read(tmp_path / "array")
    assert (texts, report.rows) == (TEXTS, {"json": 20})


@pytest.mark.parametrize("name", ["pretty.json", "pretty.jsonl", "pretty"])
def test_how_an_object_is_laid_out_changes_nothing(tmp_path: Path, name: str) -> None:
    """One a line or over many lines, as `jq .` prints them: the same rows, or the same error, or the same text."""
    rows: list[dict[str, Any]] = [*ROWS, {"text": "x" * 100_000}]
    for written in (rows, rows[::-1], rows[:1]):
        (tmp_path / name).write_text("\n".join(json.dumps(row, indent=2) for row in written))
        for place in (tmp_path / name, tmp_path):
            texts, report = read(place)
            assert texts == [row["text"].encode() for row in written]
            assert report.rows == {"json": len(written)}
    (tmp_path / name).write_text(json.dumps({"name": "a", "files": {"b": []}}, indent=2))
    with pytest.raises(UserError, match=r"no field 'text'.*'name'"):
        read(tmp_path / name)
    (tmp_path / name).write_text('{\n "text": "a"\n}\n{\n "text": }')
    texts, report = read(tmp_path / name)
    assert (texts, report.count, report.first[0][0]) == ([b"a"], 1, f"{tmp_path / name}:2")
    assert "the rest is not read" in report.first[0][1]


def test_settings_in_a_directory_are_text_and_a_wrong_field_is_an_error_where_it_is_named(tmp_path: Path) -> None:
    """What 200,000 files of /usr/share/doc are: JSON that holds no rows of text."""
    for name, data in (("one.json", b'{"name": "package", "files": []}\n'), ("list.json", b'[{"name": "a"}]\n')):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=r"no field 'text'.*'name'"):
            read(tmp_path / name)
    texts, report = read(tmp_path)
    assert len(texts) == 2
    assert (report.files, report.count) == ({"text": 2}, 0)


def test_code_and_logs_stay_text(tmp_path: Path) -> None:
    for name, data in (
        ("f.c", b"{\n  int x = 1;\n}\n"),
        ("mixed.log", b'starting\n{"text": "a"}\n{"text": "b"}\n'),
        ("few.log", b'{"text": "a"}\nthen words\nand more\nand more\n'),
        ("template", b'{"text": {{ value }}}\n'),
    ):
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name)[0] == [data]


def test_a_tar_of_samples(tmp_path: Path) -> None:
    members = {}
    for number in range(3):
        members[f"a/{number:03}.txt"] = f"sample {number}".encode()
        members[f"a/{number:03}.json"] = json.dumps(
            {"caption": {"en": f"caption {number}"}, "id": f"k{number}"}
        ).encode()
        members[f"a/{number:03}.jpg"] = bytes(100)
    path = tmp_path / "samples.bin"
    path.write_bytes(tar(members))
    assert [(d.text, d.row, d.id) for d in read_documents([path])] == [
        (f"sample {number}".encode(), number + 1, f"k{number}") for number in range(3)
    ]
    assert read(path, field="caption.en")[0] == [f"caption {number}".encode() for number in range(3)]
    packed = tmp_path / "samples.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(packed)[0]) == 3
    path.write_bytes(path.read_bytes()[:1300])
    with pytest.raises(UserError, match=r"samples.bin: not a readable tar"):
        read(path)
    path.write_bytes(2 * tar({"a.txt": b"one"}).ljust(1 << 17, b"\0"))
    texts, report = read(path)
    assert (texts, report.reasons) == ([b"one"], {"what follows the tar's end is not read": 1})
    plain = tmp_path / "keys.tar"
    plain.write_bytes(tar({"b.txt": b"one", "c.txt": b"two", ".hidden": b"x"}))
    assert [(d.text, d.id) for d in read_documents([plain])] == [(b"one", "b"), (b"two", "c")]


@pytest.mark.parametrize("last", ['3,"open\n4,x\n5,y\n', '3,"open\n\n4,"" x\n', '3,"open'])
def test_an_open_quotation_mark_is_told(last: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text\n1,"a ""b"""\n2,un"quoted\n' + last)
    texts, report = read(tmp_path / "t.csv")
    assert texts[:2] == [b'a "b"', b'un"quoted']
    [(where, what)] = report.notes
    assert (where, "quotation mark of a cell is not closed" in what) == (f"{tmp_path / 't.csv'}:3", True)
    (tmp_path / "t.csv").write_text('id,text\n1,"closed\nlater"')
    assert read(tmp_path / "t.csv")[1].notes == []


def test_a_table_whose_lines_end_in_cr(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'text,id\rhello,1\r"two\rlines",2\rbye,3')
    assert read(tmp_path / "t.csv")[0] == [b"hello", b"two\nlines", b"bye"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize(("name", "text"), [("t.csv", "text\nhello\n"), ("t.jsonl", '{"text": "hello"}\n')])
def test_rows_in_utf_16_are_said_to_be_so(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=r"UTF-(16|32).*rows are read as UTF-8 \(iconv -f UTF-"):
        read(tmp_path / name)
    (tmp_path / "other.txt").write_text("words")
    texts, report = read(tmp_path)
    assert (texts, report.count) == ([b"words"], 1)


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t"), ("t.csv.gz", ",")])
def test_tables(name: str, mark: str, tmp_path: Path) -> None:
    rows = [
        ["id", "text", "note"],
        ["1", f'"a{mark} ""b""\nc"', "n"],
        ["2", "d", "n"],
        ["3", "short"],
        ["4", "café", ""],
        ["5"],
        ["6", "one", "mark", "too many"],
    ]
    data = "\ufeff" + "\r\n".join(mark.join(row) for row in rows) + "\r\n"
    (tmp_path / name).write_bytes(gzip.compress(data.encode()) if name.endswith("gz") else data.encode())
    report = ReadReport()
    found = [(d.text.decode(), d.row, d.id) for d in read_documents([tmp_path / name], report=report)]
    assert found == [(f'a{mark} "b"\nc', 1, "1"), ("d", 2, "2"), ("short", 3, "3"), ("café", 4, "4"), ("", 5, "5")]
    assert report.reasons == {"more cells than column names": 1}
    assert report.notes == []
    with pytest.raises(UserError, match=r"no column 'body'; the file has 'id', 'text', 'note'"):
        read(tmp_path / name, field="body")
    (tmp_path / "other.txt").write_text("words")
    texts, report = read(tmp_path, field="body")
    assert texts == [b"words"]
    assert report.reasons == {"a table without the column": 1}


def test_arrow_as_datasets_writes_it(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    table = pa.Table.from_pylist(ROWS)
    saved = tmp_path / "saved"
    saved.mkdir()
    with (
        pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table, max_chunksize=7)
    (saved / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=2))
    (saved / "state.json").write_text("{}")
    documents = list(read_documents([saved]))
    assert [(d.text, d.row, d.id) for d in documents] == [(t, n + 1, str(n)) for n, t in enumerate(TEXTS)]
    with pa.OSFile(str(tmp_path / "f"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table, max_chunksize=7)
    assert read(tmp_path / "f")[0] == TEXTS
    (tmp_path / "cut").write_bytes((saved / "data-00000-of-00001.arrow").read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cut: not readable as Arrow"):
        read(tmp_path / "cut")


def test_fields_nested_several_and_lists(tmp_path: Path) -> None:
    rows = [
        {"title": "T", "body": {"parts": [{"t": "one"}, {"t": "two"}]}, "a.b": "dotted", "uuid": "u1"},
        {"title": None, "body": {"parts": [{"t": "three"}, {"u": 1}]}, "uuid": "u2"},
        {"title": "only", "uuid": 3},
        {"title": "wrong", "body": {"parts": [{"t": 4}]}, "uuid": "u4"},
        {"uuid": "u5"},
        {"title": "no name"},
    ]
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ReadReport()
    found = [
        (d.text, d.id) for d in read_documents([path], field=["title", "body.parts.t"], id_field="uuid", report=report)
    ]
    assert found == [(b"T\n\none\n\ntwo", "u1"), (b"three", "u2"), (b"only", "3")]
    assert report.reasons == {
        "field 'body.parts.t' is not a string": 1, "no field 'title'": 1, "no text or number in the id field 'uuid'": 1,
    }  # fmt: skip
    assert read(path, field="a.b")[0] == [b"dotted"]
    assert read(path, field="body.parts.0.t")[0] == [b"one", b"three"]
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    table = pa.Table.from_pylist([{"meta": {"body": ["x", "y"]}, "uuid": 1}, {"meta": {"body": ["z"]}, "uuid": 2}])
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "f.parquet")
    found = [(d.text, d.id) for d in read_documents([tmp_path / "f.parquet"], field="meta.body", id_field="uuid")]
    assert found == [(b"x\n\ny", "1"), (b"z", "2")]


def test_the_rule_for_broken_text_is_one(tmp_path: Path) -> None:
    """The same bytes in a file, a row and a column: kept, or replaced, and counted alike."""
    broken = b"caf\xe9 \xff"
    (tmp_path / "text").write_bytes(broken)
    (tmp_path / "rows").write_bytes(b'{"text": "' + broken + b'"}\n')
    (tmp_path / "table.csv").write_bytes(b"text\n" + broken + b"\n")
    places = [tmp_path / "text", tmp_path / "rows", tmp_path / "table.csv"]
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": pa.array([broken])}), tmp_path / "column")
        places.append(tmp_path / "column")
    except ImportError:
        pass
    for path in places:
        texts, report = read(path)
        assert (texts, report.broken, report.count) == ([broken], {"not UTF-8": 1}, 0)
        texts, report = read(path, broken="replace")
        assert (texts, report.broken, report.count) == (["caf\ufffd \ufffd".encode()], {"not UTF-8": 1}, 0)
        assert "replaced by U+FFFD" in list(report.lines())[-1]
        with pytest.raises(UserError, match="not UTF-8"):
            read(path, strict=True)
