"""Rows of Parquet and Arrow, batch by batch, of the columns that are asked for (extra `parquet`)."""

from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from typing import Any

from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.kinds import ARROW_FILE
from llmtool.core.corpus.records import Selector
from llmtool.core.corpus.tars import Stream
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require

_BATCH_BYTES = 8 << 20  # text held at a time: rows of a batch follow from the columns' mean size in the file
_BATCH_ROWS = 1 << 14
_DAMAGED = (ValueError, OverflowError, SystemError, UnicodeDecodeError)
"""What pyarrow says of damaged files beside its own errors."""
_TEXTUAL = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")

Batch = list[tuple[int, dict[str, Any]]]
"""Rows with their numbers from 1."""

Choose = Callable[[Any, str], list[str]]
"""(schema, source) -> the columns to read; raises where none will do. Text comes as its bytes, which saves decoding
and encoding it again. Without a choice whole rows come, as Python has them."""


def text_columns(select: Selector) -> Choose:
    """The columns that hold what is selected; a column that can hold no text is refused."""

    def choose(schema: Any, source: str) -> list[str]:
        arrow = require("pyarrow", extra="parquet", why="to read columns")
        if problem := select.lacking(schema.names, source):
            raise problem
        for field in select.fields:
            if field in schema.names and not _may_hold_text(arrow, schema.field(field).type):
                what = f"column {field!r} holds {schema.field(field).type}, not text"
                raise UserError(what, where=source, hint="name another with --field")
        return select.tops(schema.names)

    return choose


def row_groups(stream: Input) -> list[tuple[int, int, int]]:
    """(number from 1, rows, bytes on disk) of each row group of a Parquet file."""
    arrow = require("pyarrow", extra="parquet", why="to read Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", why="to read Parquet")
    try:
        with stream.seekable() as place, parquet.ParquetFile(place) as file:
            found = file.metadata
            groups = [found.row_group(number) for number in range(found.num_row_groups)]
            sizes = [sum(group.column(at).total_compressed_size for at in range(group.num_columns)) for group in groups]
            return [(n, group.num_rows, size) for n, (group, size) in enumerate(zip(groups, sizes, strict=True), 1)]
    except (arrow.ArrowException, OSError, *_DAMAGED) as error:
        raise UserError(f"not a readable Parquet file: {error}", where=stream.source) from None


def read_parquet(stream: Input, choose: Choose | None) -> Iterator[tuple[float, Batch]]:
    """Batches of the stream's row groups, each with the part of them that is read by then (0 to 1).

    Column chunks are read through a small buffer, not whole: a file may be one huge row group.
    """
    arrow = require("pyarrow", extra="parquet", why="to read Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", why="to read Parquet")
    try:
        with (
            stream.seekable() as place,
            parquet.ParquetFile(place, buffer_size=1 << 20, pre_buffer=False) as file,
        ):
            columns = _chosen(file.schema_arrow, stream, choose)
            groups = range(file.metadata.num_row_groups)[stream.start : stream.end]
            rows = sum(file.metadata.row_group(number).num_rows for number in groups)
            size = _batch_rows(file.metadata, columns)
            batches = file.iter_batches(size, row_groups=list(groups), columns=columns, use_threads=False)
            read = 0
            for batch in _rows(arrow, batches, columns, as_bytes=choose is not None, before=stream.first_row):
                read += len(batch)
                yield read / max(1, rows), batch
    except (arrow.ArrowException, OSError, *_DAMAGED) as error:
        raise UserError(f"not a readable Parquet file: {error}", where=stream.source) from None


def read_arrow(chunks: Iterable[bytes], head: bytes, stream: Input, choose: Choose | None) -> Iterator[Batch]:
    """The IPC stream (what `datasets` writes) as it comes, the IPC file from a plain file, batch by batch."""
    arrow = require("pyarrow", extra="parquet", why="to read Arrow")
    ipc = require("pyarrow.ipc", extra="parquet", why="to read Arrow")
    try:
        if head.startswith(ARROW_FILE):
            if stream.size is None:
                raise UserError("this Arrow file can be read only from a plain file", where=stream.source)
            with stream.seekable() as place, ipc.open_file(place) as file:
                batches = (_validated(file.get_batch(number)) for number in range(file.num_record_batches))
                yield from _rows(arrow, batches, _chosen(file.schema, stream, choose), as_bytes=choose is not None)
            return
        with ipc.open_stream(BufferedReader(Stream(chunks), 1 << 20)) as file:
            yield from _rows(
                arrow, map(_validated, file), _chosen(file.schema, stream, choose), as_bytes=choose is not None
            )
    except (arrow.ArrowException, OSError, *_DAMAGED) as error:
        raise UserError(f"not readable as Arrow: {error}", where=stream.source) from None
    except MemoryError:  # a length that is damaged is asked for whole
        raise UserError("not readable as Arrow: it says to be longer than memory", where=stream.source) from None


def _validated(batch: Any) -> Any:
    """A batch whose offsets stay inside its memory: those of a damaged file end the process."""
    batch.validate(full=True)
    return batch


def _may_hold_text(arrow: Any, kind: Any) -> bool:
    kinds = arrow.types
    if kinds.is_dictionary(kind):
        return _may_hold_text(arrow, kind.value_type)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _may_hold_text(arrow, kind.value_type)
    return _is_textual(arrow, kind) or kinds.is_null(kind)


def _is_textual(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return any(getattr(arrow.types, test)(kind) for test in _TEXTUAL if hasattr(arrow.types, test))


def _batch_rows(metadata: Any, columns: list[str]) -> int:
    """Rows whose text is about _BATCH_BYTES, by the row group with the longest rows."""
    longest = 1.0
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path.partition(".")[0] in columns:
            sizes = [group.column(index).total_uncompressed_size / max(1, group.num_rows) for group in groups]
            longest = max(longest, *sizes)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / longest)))


def _chosen(schema: Any, stream: Input, choose: Choose | None) -> list[str]:
    return list(schema.names) if choose is None else choose(schema, stream.source)


def _rows(
    arrow: Any, batches: Iterable[Any], columns: list[str], *, as_bytes: bool, before: int = 0
) -> Iterator[Batch]:
    row = before + 1
    for whole in batches:
        for start in range(0, whole.num_rows, _BATCH_ROWS):
            batch = whole.slice(start, _BATCH_ROWS)
            values = [_values(arrow, batch.column(name), as_bytes) for name in columns]
            records = (dict(zip(columns, cells, strict=True)) for cells in zip(*values, strict=True))
            yield list(enumerate(records, start=row))
            row += batch.num_rows


def _values(arrow: Any, column: Any, as_bytes: bool) -> list[Any]:
    if as_bytes and _is_textual(arrow, column.type):
        return list(column.cast(arrow.large_binary()).to_pylist())
    return list(column.to_pylist())
