"""Objects of JSONL, JSON arrays and Parquet, packed or not, with the number of each row."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.core.corpus.blocks import BLOCK, bounded_lines, regroup
from llmtool.core.corpus.compression import peek, unpack
from llmtool.core.corpus.inputs import Input, find_inputs
from llmtool.core.corpus.jsonl import BOM
from llmtool.core.corpus.parquet import MAGIC
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import LARGEST

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zst")


def read_rows(inputs: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(source, row from 1, object) of all inputs; of a directory, the files whose names say that they hold rows."""
    streams = find_inputs(inputs)
    for stream in streams:
        if stream.named or stream.source.lower().endswith(SUFFIXES):
            yield from _read(stream)


def _read(stream: Input) -> Iterator[tuple[str, int, dict[str, Any]]]:
    chunks = stream.chunks()
    head, chunks_again = peek(unpack(chunks, stream.source), 4096)
    if head.startswith(MAGIC):
        chunks.close()
        yield from _parquet(stream)
        return
    blocks = regroup(chunks_again, BLOCK)
    if head.removeprefix(BOM).lstrip().startswith(b"["):
        rows: Iterator[tuple[int, Any]] = enumerate(_array(blocks, stream.source), start=1)
    else:
        rows = _lines(blocks, stream.source)
    for number, row in rows:
        if not isinstance(row, dict):
            what = f"a {type(row).__name__}, not an object"
            raise UserError(what, where=f"{stream.source}:{number}", hint="JSONL has one object a line")
        yield stream.source, number, row


def _lines(blocks: Iterator[bytes], source: str) -> Iterator[tuple[int, Any]]:
    decode = json.JSONDecoder().decode
    for number, line in enumerate(bounded_lines(blocks, source), start=1):
        line = line.removeprefix(BOM) if number == 1 else line
        if line and not line.isspace():
            yield number, _parsed(decode, line, f"{source}:{number}")


def _array(blocks: Iterator[bytes], source: str) -> list[Any]:
    held, size = [], 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size > LARGEST:
            raise UserError(f"a JSON array of more than {LARGEST >> 20} MiB", where=source, hint="write it as JSONL")
    rows: list[Any] = _parsed(json.JSONDecoder().decode, b"".join(held).removeprefix(BOM), source)
    return rows


def _parsed(decode: Any, data: bytes, where: str) -> Any:
    try:
        return decode(data.decode())
    except UnicodeDecodeError:
        raise UserError("not valid UTF-8", where=where) from None
    except (ValueError, RecursionError) as error:
        at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        what = f"not valid JSON: {getattr(error, 'msg', error)}{at}"
        raise UserError(what, where=where, hint="JSONL has one complete object a line") from None


def _parquet(stream: Input) -> Iterator[tuple[str, int, dict[str, Any]]]:
    if stream.size is None:
        raise UserError("Parquet can be read only from a plain file", where=stream.source)
    arrow = require("pyarrow.parquet", extra="parquet", why="to read Parquet")
    try:
        file = arrow.ParquetFile(stream.source)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield stream.source, number, row
    except (OSError, ValueError) as error:  # pyarrow's own errors are one or the other
        raise UserError(f"not Parquet: {error}", where=stream.source) from None
