"""Parquet: one document a row of a string or binary column, read batch by batch (extra `parquet`)."""

from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.core.corpus.document import Document, RowErrors
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.extras import require

MAGIC = b"PAR1"
_BATCH_BYTES = 8 << 20  # text held at a time: rows of a batch follow from the column's mean size in the file
_BATCH_ROWS = 1 << 14


def read_parquet(
    source: str, *, field: str, errors: RowErrors, keep: Sequence[str] = ()
) -> Iterator[tuple[float, list[Document]]]:
    """Batches of documents, each with the part of the file that is read by then (0 to 1).

    Column chunks are read through a small buffer, not whole: a file may be one huge row group.
    """
    arrow = require("pyarrow", extra="parquet", why="to read Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", why="to read Parquet")
    try:
        with parquet.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False) as file:
            _check_field(arrow, file.schema_arrow, field, source)
            rows = file.metadata.num_rows
            kept = [name for name in keep if name in file.schema_arrow.names and name != field]
            columns = [field, *kept]
            batches = file.iter_batches(_batch_rows(file.metadata, field), columns=columns, use_threads=False)
            row = 1
            for batch in batches:
                texts = batch.column(field).cast(arrow.large_binary()).to_pylist()
                documents = _documents(texts, source, row, field, errors)
                _keep(documents, row, {name: batch.column(name).to_pylist() for name in kept})
                yield (row - 1 + len(texts)) / max(1, rows), documents
                row += len(texts)
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"not a readable Parquet file: {error}", where=source) from None


def _check_field(arrow: Any, schema: Any, field: str, source: str) -> None:
    if field not in schema.names:
        raise UserError(
            f"no column {field!r}; the file has {', '.join(map(repr, schema.names))}",
            where=source,
            hint=closest(field, schema.names) or "name the column with --field",
        )
    kind = schema.field(field).type
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    textual = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    if not any(getattr(arrow.types, test)(kind) for test in textual if hasattr(arrow.types, test)):
        raise UserError(f"column {field!r} holds {kind}, not text", where=source, hint="name another with --field")


def _batch_rows(metadata: Any, field: str) -> int:
    """Rows whose text is about _BATCH_BYTES, by the row group with the longest rows."""
    longest = 1.0
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path == field:
            sizes = [group.column(index).total_uncompressed_size / max(1, group.num_rows) for group in groups]
            longest = max(longest, *sizes)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / longest)))


def _documents(texts: list[bytes | None], source: str, row: int, field: str, errors: RowErrors) -> list[Document]:
    documents = []
    for number, text in enumerate(texts, start=row):
        if text is None:
            errors.add(f"{source}, row {number}", f"field {field!r} is not a string", detail="null")
        else:
            documents.append(Document(text, source, number))
    return documents


def _keep(documents: list[Document], row: int, columns: dict[str, list[Any]]) -> None:
    """Strings of other columns, for those who asked for them."""
    for document in documents if columns else ():
        values = {name: column[document.row - row] for name, column in columns.items()}
        document.kept = {name: value for name, value in values.items() if isinstance(value, str)}
