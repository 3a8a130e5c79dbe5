from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtool.core.corpus import columns as module
from llmtool.core.corpus.broken import BrokenText
from llmtool.core.corpus.columns import Batch, Choose, read_parquet, text_columns
from llmtool.core.corpus.document import Document, ReadReport, RowErrors
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.records import Selector
from llmtool.core.run.errors import UserError

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

TEXTS = ["a", "", "дом\n", "🙂" * 300, "x" * 5000] * 40


def write(path: Path, column: object, **options: object) -> str:
    pq.write_table(pa.table({"id": pa.array(range(len(column))), "text": column}), path, **options)  # type: ignore[arg-type]
    return str(path)


def selector(field: str, report: ReadReport, strict: bool) -> Selector:
    errors = RowErrors(report, strict)
    return Selector([field], None, (), errors, BrokenText(report, errors, replace=False))


def batches(path: str, choose: Choose | None) -> Iterator[tuple[float, Batch]]:
    return read_parquet(Input(path, Path(path).stat().st_size, named=True), choose)


def read(path: str, *, field: str = "text", report: ReadReport | None = None, strict: bool = False) -> list[Document]:
    select = selector(field, report or ReadReport(), strict)
    found = list(batches(path, text_columns(select)))
    parts = [part for part, _ in found]
    assert parts == sorted(parts)
    assert parts[-1:] in ([], [1.0])
    documents = [select.document(record, path, row) for _, batch in found for row, record in batch]
    return [document for document in documents if document]


@pytest.mark.parametrize(
    "kind", ["string", "large_string", "string_view", "binary", "large_binary", "binary_view", "dictionary"]
)
@pytest.mark.parametrize("group", [7, 10_000])
def test_every_kind_of_text_column(kind: str, group: int, tmp_path: Path) -> None:
    column = pa.array(TEXTS)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pa, kind)())
    documents = read(write(tmp_path / "f.parquet", column, row_group_size=group))
    assert [document.text for document in documents] == [text.encode() for text in TEXTS]
    assert [document.row for document in documents] == list(range(1, len(TEXTS) + 1))
    assert not any(document.more for document in documents)


def test_batches_follow_the_size_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 50_000)
    path = write(tmp_path / "f", pa.array([f"{number:05}" * 2000 for number in range(100)]), use_dictionary=False)
    sizes = [len(batch) for _, batch in batches(path, text_columns(selector("text", ReadReport(), strict=True)))]
    assert sum(sizes) == 100
    assert max(sizes) <= 10


def test_nulls_are_rows_that_do_not_parse(tmp_path: Path) -> None:
    path = write(tmp_path / "f", pa.array(["a", None, "b", None]))
    report = ReadReport()
    assert [(document.text, document.row) for document in read(path, report=report)] == [(b"a", 1), (b"b", 3)]
    assert report.first[0] == (f"{path}:2", "field 'text' is not a string: null")
    assert report.count == 2
    with pytest.raises(UserError, match="f:2: field 'text' is not a string: null"):
        read(path, strict=True)


def test_ids_of_any_type_come_along(tmp_path: Path) -> None:
    path = write(tmp_path / "f", pa.array(["a", "b"]))
    assert [document.id for document in read(path)] == ["0", "1"]
    pq.write_table(pa.table({"id": ["<urn:1>", "<urn:2>"], "text": ["a", "b"]}), tmp_path / "g")
    assert [document.id for document in read(str(tmp_path / "g"))] == ["<urn:1>", "<urn:2>"]


def test_whole_rows_as_python_has_them(tmp_path: Path) -> None:
    rows = [{"text": "a", "meta": {"n": [1, 2]}}, {"text": None, "meta": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f")
    assert [row for _, batch in batches(str(tmp_path / "f"), None) for _, row in batch] == rows


def test_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path / "f", pa.array([], pa.string()))) == []


def test_refusals_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "f", pa.array(TEXTS))
    with pytest.raises(UserError, match=r"no column 'texts'; the file has 'id', 'text' \(did you mean 'text'\?\)"):
        read(path, field="texts")
    with pytest.raises(UserError, match=r"column 'id' holds int64, not text"):
        read(path, field="id")
    data = Path(path).read_bytes()
    for number, damaged in enumerate((data[:-10], data[: len(data) // 2], b"PAR1", b"PAR1" + bytes(60) + b"PAR1")):
        broken = tmp_path / f"broken{number}"
        broken.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"^\S*broken{number}: not a readable Parquet file: .*") as caught:
            read(str(broken))
        assert "\n" not in str(caught.value)


def test_damaged_pages_are_an_error(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "f", pa.array(TEXTS), compression="zstd"))
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read(str(path))
