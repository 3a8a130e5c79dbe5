from pathlib import Path

import pytest

from llmtool.core.corpus import parquet as module
from llmtool.core.corpus.document import Document, RowErrors, Skipped
from llmtool.core.corpus.parquet import read_parquet
from llmtool.core.run.errors import UserError

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

TEXTS = ["a", "", "дом\n", "🙂" * 300, "x" * 5000] * 40


def write(path: Path, column: object, **options: object) -> str:
    pq.write_table(pa.table({"id": pa.array(range(len(column))), "text": column}), path, **options)  # type: ignore[arg-type]
    return str(path)


def read(path: str, *, field: str = "text", skipped: Skipped | None = None, strict: bool = False) -> list[Document]:
    batches = list(read_parquet(path, field=field, errors=RowErrors(skipped or Skipped(), strict)))
    parts = [part for part, _ in batches]
    assert parts == sorted(parts)
    assert parts[-1:] in ([], [1.0])
    return [document for _, batch in batches for document in batch]


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
    sizes = [len(batch) for _, batch in read_parquet(path, field="text", errors=RowErrors(Skipped(), strict=True))]
    assert sum(sizes) == 100
    assert max(sizes) <= 10


def test_nulls_are_rows_that_do_not_parse(tmp_path: Path) -> None:
    path = write(tmp_path / "f", pa.array(["a", None, "b", None]))
    skipped = Skipped()
    assert [(document.text, document.row) for document in read(path, skipped=skipped)] == [(b"a", 1), (b"b", 3)]
    assert skipped.first[0] == (f"{path}, row 2", "field 'text' is not a string: null")
    assert skipped.count == 2
    with pytest.raises(UserError, match="row 2: field 'text' is not a string: null"):
        read(path, strict=True)


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
