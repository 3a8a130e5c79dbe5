"""The one corpus reader: documents of text files, JSONL and Parquet, packed or not, from files, directories or stdin.

A stream from end to end: memory holds a few blocks of 1 MiB (one row of JSONL, one batch of Parquet), whatever the
size of the corpus. What a file is, is told by its content; a name decides only between plain text and JSONL.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.corpus.blocks import file_document, line_documents, regroup, safe_cut, separated_documents
from llmtool.core.corpus.charset import watched
from llmtool.core.corpus.compression import peek, unpack
from llmtool.core.corpus.document import NOT_TEXT, Document, RowErrors, Skipped
from llmtool.core.corpus.inputs import Input, find_inputs, total_bytes
from llmtool.core.corpus.jsonl import BOM, SUFFIXES, read_jsonl
from llmtool.core.corpus.parquet import MAGIC, read_parquet
from llmtool.core.corpus.sizes import parse_size
from llmtool.core.run.errors import UserError

__all__ = [
    "Document", "Format", "Skipped", "TextMode", "parse_size", "read_documents", "read_streams", "safe_cut",
    "total_bytes",
]  # fmt: skip

Format = Literal["auto", "text", "jsonl", "parquet"]
TextMode = Literal["file", "line"]

_HEAD = 8192  # bytes looked at to tell what a stream is

# Packed formats that would pass for text: learning from them is never what was meant.
_FOREIGN = (
    ("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")),
    ("xz", re.compile(rb"\xfd7zXZ\x00")),
    ("lz4", re.compile(rb"\x04\x22M\x18")),
    ("zip", re.compile(rb"PK[\x03\x05][\x04\x06]")),
    ("7-Zip", re.compile(rb"7z\xbc\xaf\x27\x1c")),
    ("tar", re.compile(rb"(?s).{257}ustar")),
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The options of one reading, the same for every input."""

    field: str
    text_mode: TextMode
    format: Format
    whole: bool
    skipped: Skipped
    errors: RowErrors
    limit_bytes: int | None
    on_bytes: Callable[[int], None] | None
    keep: Sequence[str] = ()
    separator: bytes | None = None


def read_documents(
    inputs: Sequence[str | Path],
    *,
    field: str = "text",
    text_mode: TextMode = "file",
    format: Format = "auto",  # noqa: A002 (the option's name)
    strict: bool = False,
    whole: bool = False,
    limit_bytes: int | None = None,
    separator: str | None = None,
    report: Skipped | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Documents of all inputs in order; see `find_inputs` for the order.

    text_mode: plain text is one document a file (handed on in blocks, see `Document.more`) or one a line.
    format: "auto" knows Parquet by its content and JSONL by its name (of a pipe, by a first "{"). gzip and Zstandard
        are unpacked in any case.
    strict: the first row that does not parse is a UserError; otherwise such rows are counted in `report`.
    whole: never cut a document, at the price of holding it in memory. Needed where `safe_cut` does not hold: without
        a pre-tokenizer, or with special tokens that hold white space or take it along.
    limit_bytes: stop after the document or block that brings the text to this many bytes; a file without a place to
        cut stops there exactly.
    separator: plain text is cut into documents at each of these, which belong to none.
    on_bytes: told of bytes read from disk (packed, if packed); over a complete reading they add up to `total_bytes`.

    Files in directories that are not text (NUL bytes, archives) are skipped and counted; a file named by the user is
    read even then, so that any bytes can be encoded; what is no UTF-8 is noted in `report`. Raises UserError when there
    is no input or no text at all.
    """
    skipped = Skipped() if report is None else report
    errors = RowErrors(skipped, strict)
    cut = _separator(separator, text_mode)
    reading = _Reading(field, text_mode, format, whole, skipped, errors, limit_bytes, on_bytes, separator=cut)
    streams = find_inputs(inputs)
    documents = _require_text((document for stream in streams for document in _read(stream, reading)), streams, skipped)
    return documents if limit_bytes is None else _limit(documents, limit_bytes)


def read_streams(
    streams: Sequence[Input],
    *,
    field: str = "text",
    text_mode: TextMode = "file",
    format: Format = "auto",  # noqa: A002 (the option's name)
    strict: bool = False,
    keep: Sequence[str] = (),
    report: Skipped,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Whole documents of some of the streams that `find_inputs` named, also if they hold no text at all.

    keep: string fields of JSONL and Parquet rows that come along as `Document.kept`.
    """
    reading = _Reading(field, text_mode, format, True, report, RowErrors(report, strict), None, on_bytes, tuple(keep))
    return (document for stream in streams for document in _read(stream, reading))


def _require_text(documents: Iterator[Document], streams: Sequence[Input], skipped: Skipped) -> Iterator[Document]:
    for document in documents:
        yield document
        if document.text:
            break
    else:
        if skipped.count:
            where, what = skipped.first[0]
            raise UserError(f"no text found; {skipped.count:,} rows or files skipped, the first: {what}", where=where)
        named = streams[0].source if len(streams) == 1 else f"{streams[0].source} and {len(streams) - 1} more"
        raise UserError("no text found: the input is empty", where=named)
    yield from documents


def _limit(documents: Iterator[Document], limit_bytes: int) -> Iterator[Document]:
    taken = 0
    for document in documents:
        taken += len(document.text)
        if taken >= limit_bytes:
            yield replace(document, more=False)  # here the document ends, as far as anyone will see
            return
        yield document


def _read(stream: Input, reading: _Reading) -> Iterator[Document]:
    """Documents of one input; afterwards all its bytes are reported, those passed over included."""
    reported = 0

    def advance(number: int) -> None:
        nonlocal reported
        reported += number
        if reading.on_bytes and number:
            reading.on_bytes(number)

    with closing(stream.chunks(advance)) as opened:
        magic, raw = peek(opened, len(MAGIC))
        if reading.format == "parquet" or (reading.format == "auto" and magic.startswith(MAGIC)):
            if stream.size is None:
                raise _not_streamable(stream.source)
            for part, batch in read_parquet(
                stream.source, field=reading.field, errors=reading.errors, keep=reading.keep
            ):
                yield from batch
                advance(max(0, int(part * stream.size) - reported))
        else:
            yield from _read_stream(raw, stream, reading)
    advance(max(0, (stream.size or 0) - reported))


def _read_stream(raw: Iterator[bytes], stream: Input, reading: _Reading) -> Iterator[Document]:
    """Documents of text or JSONL, packed or not."""
    head, chunks = peek(unpack(raw, stream.source), _HEAD)
    if reading.format == "auto" and head.startswith(MAGIC):
        raise _not_streamable(stream.source)
    if reason := _not_text(head[:_HEAD], named=stream.named):
        if stream.named and reading.format == "auto":
            raise UserError(reason, where=stream.source, hint="unpack it first, or give --format text to read it as is")
        if not stream.named:
            reading.skipped.add(stream.source, reason)
            return
    blocks = regroup(chunks)
    if reading.format == "jsonl" or (reading.format == "auto" and _is_jsonl(head, stream)):
        yield from read_jsonl(blocks, stream.source, field=reading.field, errors=reading.errors, keep=reading.keep)
        return
    if stream.named:
        blocks = watched(blocks, stream.source, reading.skipped)
    if reading.separator is not None:
        most = reading.limit_bytes
        yield from separated_documents(blocks, stream.source, reading.separator, whole=reading.whole, most=most)
    elif reading.text_mode == "line":
        yield from line_documents(blocks, stream.source, whole=reading.whole)
    else:
        yield from file_document(blocks, stream.source, whole=reading.whole, most=reading.limit_bytes)


def _separator(text: str | None, text_mode: TextMode) -> bytes | None:
    if text == "":
        raise UserError("the document separator is empty", hint="--document-separator '<|endoftext|>'")
    if text is not None and text_mode == "line":
        raise UserError("documents end at lines or at a separator, not both", hint="drop --documents line")
    return None if text is None else encode_text(text)


def _not_text(head: bytes, *, named: bool) -> str | None:
    """Why a stream that begins so is no text; NUL bytes count against files met in directories only."""
    for kind, pattern in _FOREIGN:
        if pattern.match(head):
            return f"{kind} files are not read"
    return NOT_TEXT if not named and b"\0" in head else None


def _is_jsonl(head: bytes, stream: Input) -> bool:
    """By the name without .gz or .zst; a stream without a telling name is JSONL if its first visible byte is {."""
    if stream.size is None:
        return head.removeprefix(BOM).lstrip().startswith(b"{")
    return re.sub(r"\.(gz|zst)$", "", stream.source.lower()).endswith(SUFFIXES)


def _not_streamable(source: str) -> UserError:
    return UserError("Parquet can be read only from a plain file", where=source, hint="save it, unpacked, and name it")
