"""The one corpus reader: inputs -> files, each of a kind told by its content -> rows -> documents.

A stream from end to end: memory holds a few blocks of 1 MiB (one row of JSON, one batch of Parquet), whatever the
size of the corpus. Every command that takes text reads it here, with the options of `Reading`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.corpus.blocks import file_document, line_documents, regroup, safe_cut, separated_documents
from llmtool.core.corpus.broken import BrokenText
from llmtool.core.corpus.charset import watched, wide
from llmtool.core.corpus.columns import Choose, read_arrow, read_parquet, text_columns
from llmtool.core.corpus.compression import packing, peek, unpack
from llmtool.core.corpus.cuts import Unpacked
from llmtool.core.corpus.document import Document, ReadReport, RowErrors
from llmtool.core.corpus.inputs import Input, find_inputs, total_bytes
from llmtool.core.corpus.jsonl import Row, read_jsonl, read_objects
from llmtool.core.corpus.kinds import HEAD, Kind, foreign, ids_in, tell
from llmtool.core.corpus.reading import Broken, Format, Reading, TextMode
from llmtool.core.corpus.records import Selector
from llmtool.core.corpus.sampling import Draw, passes, text_share
from llmtool.core.corpus.sizes import parse_size
from llmtool.core.corpus.tables import read_table
from llmtool.core.corpus.tars import read_tar
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted

__all__ = [
    "Broken", "Document", "Format", "ReadReport", "Reading", "TextMode", "parse_size", "read_documents", "read_streams",
    "safe_cut", "total_bytes",
]  # fmt: skip

OnBytes = Callable[[int], None]
Draws = Callable[[Iterator[Document]], Iterator[Document]]
Record = tuple[str, int, Any]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over some streams: the options, and where its findings go."""

    options: Reading
    whole: bool
    report: ReadReport
    errors: RowErrors
    broken: BrokenText
    select: Selector
    most: int | None = None
    on_bytes: OnBytes | None = None
    separator: bytes | None = None
    longest: int | None = None
    unpacked: Unpacked = field(default_factory=Unpacked)


def read_documents(
    inputs: Sequence[str | Path],
    reading: Reading | None = None,
    *,
    whole: bool = False,
    limit_bytes: int | None = None,
    longest: int | None = None,
    keep: Sequence[str] = (),
    report: ReadReport | None = None,
    on_bytes: OnBytes | None = None,
    **named: Any,
) -> Iterator[Document]:
    """Documents of all inputs in order; see `find_inputs` for the order, `Reading` for the options, or name them.

    whole: never cut a document, at the price of holding it in memory. Needed where `safe_cut` does not hold: without
        a pre-tokenizer, or with special tokens that hold white space or take it along.
    limit_bytes: stop after the document or block that brings the text to this many bytes; a file without a place to
        cut stops there exactly. The first bytes, that is; `Reading.sample` draws from everywhere.
    longest: plain text without a place to cut is handed on in parts beyond this many bytes, also if `whole`: for
        training, which would count it in parts.
    keep: string fields of rows that come along as `Document.kept`.
    on_bytes: told of bytes read from disk (packed, if packed); over a complete reading they add up to `total_bytes`.

    Files in directories that are not text (NUL bytes, archives) are skipped and counted; a file named by the user is
    read even then, so that any bytes can be encoded; what is no UTF-8 is noted in `report`. Raises UserError when there
    is no input or no text at all.
    """
    options = Reading.of(reading, named)
    report = ReadReport() if report is None else report
    streams = find_inputs(inputs, options, report)
    one = replace(_pass(options, whole, keep, report, limit_bytes, on_bytes), longest=longest)
    documents = _require_text(_taken(streams, one), streams, report)
    return documents if limit_bytes is None else _limit(documents, limit_bytes)


def read_streams(
    streams: Sequence[Input],
    reading: Reading | None = None,
    *,
    whole: bool = True,
    keep: Sequence[str] = (),
    report: ReadReport,
    on_bytes: OnBytes | None = None,
    unpacked: Unpacked | None = None,
    **named: Any,
) -> Iterator[Document]:
    """Documents of some of the streams that `find_inputs` named, also if they hold no text at all; whole ones, or as
    in read_documents. unpacked: what stays open for the next part of a packed file."""
    one = _pass(Reading.of(reading, named), whole, keep, report, None, on_bytes)
    one = one if unpacked is None else replace(one, unpacked=unpacked)
    return (document for stream in streams for document in _read(stream, one))


def read_records(streams: Sequence[Input], *, report: ReadReport, strict: bool = False) -> Iterator[Record]:
    """(source, row, what the row holds) of streams of rows, for those who need more than a text."""
    one = _pass(Reading(strict=strict), True, (), report, None, None)
    for stream in streams:
        with closing(stream.chunks()) as opened:
            opening = _open(opened, stream, one, rows=True)
            if opening.kind == "text":
                what = "plain text, not rows"
                if stream.named:
                    raise UserError(what, where=stream.source, hint="wanted JSONL, JSON or Parquet")
                report.add(stream.source, what)
            elif opening.kind is not None:
                for number, row, damaged, _ in _rows(opening, stream, one, None, _nothing):
                    if damaged:
                        one.errors.add(f"{stream.source}:{number}", "not valid UTF-8")
                        continue
                    yield stream.source, number, row


def kind_of(stream: Input, reading: Reading) -> tuple[Kind | None, bool]:
    """(what a stream is read as, None if it is left out; whether it is packed), by its beginning."""
    with closing(stream.chunks()) as opened:
        opening = _open(opened, stream, _pass(reading, True, (), ReadReport(), None, None))
    return opening.kind, opening.packed


def _pass(
    options: Reading,
    whole: bool,
    keep: Sequence[str],
    report: ReadReport,
    most: int | None,
    on_bytes: OnBytes | None,
) -> _Pass:
    errors = RowErrors(report, options.strict)
    broken = BrokenText(report, errors, replace=options.broken == "replace")
    select = Selector(options.field, options.id_field, keep, errors, broken)
    cut = _separator(options.document_separator, options.text_mode)
    return _Pass(options, whole, report, errors, broken, select, most, on_bytes, cut)


def _separator(text: str | None, text_mode: TextMode) -> bytes | None:
    if text == "":
        raise UserError("the document separator is empty", hint="--document-separator '<|endoftext|>'")
    if text is not None and text_mode == "line":
        raise UserError("documents end at lines or at a separator, not both", hint="drop --documents line")
    return None if text is None else encode_text(text)


def _taken(streams: Sequence[Input], one: _Pass) -> Iterator[Document]:
    """Documents as weights and the sample have them."""
    share = _share(streams, one)
    draw = Draw(one.options.seed)
    for number, stream in enumerate(streams):
        parts = passes(stream.weight * share)
        if stream.size is None and parts != [1.0]:
            raise UserError("a weight needs an input that can be read again", where=stream.source)
        for turn, part in enumerate(parts):
            # what is left out and broken, and the bytes read, count once, however often a stream is read
            again = replace(one, report=ReadReport(), on_bytes=None)
            told = again if turn else one
            for document in _read(stream, told, partial(draw.take, share=part, key=f"{number}.{turn}")):
                if one.report.sample is not None:
                    one.report.sample = (one.report.sample[0] + len(document.text), one.report.sample[1])
                yield document
            for kind, rows in again.report.rows.items():
                one.report.take(kind, rows, files=0)


def _share(streams: Sequence[Input], one: _Pass) -> float:
    """The share of all text that `sample` asks for; 1 at most."""
    if one.options.sample is None:
        return 1.0
    wanted = parse_size(str(one.options.sample))
    if any(stream.size is None for stream in streams):
        raise UserError("--sample needs inputs whose size is known", hint="save standard input to a file first")
    quiet = _pass(one.options, False, (), ReadReport(), None, None)
    share, total = text_share(streams, wanted, lambda stream, count: _read(stream, replace(quiet, on_bytes=count)))
    one.report.sample = (0, total)
    return min(1.0, share)


def _require_text(documents: Iterator[Document], streams: Sequence[Input], report: ReadReport) -> Iterator[Document]:
    for document in documents:
        yield document
        if document.text:
            break
    else:
        if report.count:
            where, what = report.first[0]
            skipped = counted(report.count, "row or file", "rows or files")
            hint = "name the field with --field" if what.startswith("no field") else ""
            raise UserError(f"no text found; {skipped} skipped, the first: {what}", where=where, hint=hint)
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


@dataclass(frozen=True, slots=True)
class _Opening:
    """A stream whose kind is known. chunks: its bytes, unpacked, from the first on; packed: whether they were."""

    kind: Kind | None
    chunks: Iterator[bytes]
    head: bytes
    packed: bool


def _read(stream: Input, one: _Pass, drawn: Draws | None = None) -> Iterator[Document]:
    """Documents of one stream; afterwards all its bytes are reported, those passed over included."""
    reported = 0

    def advance(number: int) -> None:
        nonlocal reported
        reported += number
        if one.on_bytes and number:
            one.on_bytes(number)

    def advance_to(part: float) -> None:
        advance(max(0, int(part * (stream.size or 0)) - reported))

    with closing(stream.chunks(advance)) as opened:
        if stream.kind == "parquet":
            opening = _Opening(stream.kind, iter(()), b"", packed=False)  # start and end count row groups
        elif stream.member is None:
            opening = _open(opened, stream, one)
        else:
            opening = _Opening(stream.kind, one.unpacked.part(stream), b"", packed=True)
        if opening.kind is not None:
            documents = _documents(opening, stream, one, advance_to)
            rows = 0
            try:
                for document in drawn(documents) if drawn else documents:
                    rows += not document.more
                    yield document
            finally:  # also of a reading that stops early
                if rows or opening.kind != "csv":  # a table in a directory may have been left out
                    one.report.take(opening.kind, rows, files=0 if stream.start else 1)  # parts are one file
    advance_to(1)


def _open(raw: Iterator[bytes], stream: Input, one: _Pass, *, rows: bool = False) -> _Opening:
    """Look at what the stream begins with; kind None: it is left out, which is counted. rows: whatever they hold."""
    head, raw = peek(raw, HEAD)
    packed = packing(head) is not None
    unpacked = unpack(raw, stream.source)
    if packed:
        head, unpacked = peek(unpacked, HEAD)
    head = head[:HEAD]
    wanted = one.options.format
    fields = () if rows else one.options.field
    if stream.kind is not None:
        return _Opening(stream.kind, unpacked, head, packed)
    kind = tell(head, stream.source, named=stream.named, fields=fields) if wanted == "auto" else wanted
    if kind == "text" or (wanted not in ("auto", "tar", "parquet", "arrow") and not stream.named):
        reason = foreign(head, named=stream.named) or ids_in(stream.source)
        if reason and stream.named and wanted == "auto":
            what, hint = reason
            raise UserError(what, where=stream.source, hint=f"{hint}, or give --input-format text to read it as is")
        if reason and not stream.named:
            one.report.add(stream.source, reason[0])
            return _Opening(None, unpacked, head, packed)
    if kind in ("csv", "jsonl", "json") and (reason := wide(head)):
        if stream.named:
            raise UserError(reason[0], where=stream.source, hint=reason[1])
        one.report.add(stream.source, reason[0])
        return _Opening(None, unpacked, head, packed)
    return _Opening(kind, unpacked, head, packed)


def _documents(opening: _Opening, stream: Input, one: _Pass, advance_to: Callable[[float], None]) -> Iterator[Document]:
    """Documents of a stream whose kind is known."""
    source = stream.source
    if opening.kind == "text":
        blocks = regroup(opening.chunks)
        if stream.named:
            blocks = watched(blocks, source, one.report)
        if one.separator is not None:
            texts = separated_documents(
                blocks, source, one.separator, whole=one.whole, most=one.most, longest=one.longest
            )
        elif one.options.text_mode == "line":
            texts = line_documents(blocks, source, whole=one.whole, longest=one.longest)
        else:
            texts = file_document(blocks, source, whole=one.whole, most=one.most, longest=one.longest)
        for text in _goes_on(texts) if stream.more else texts:
            text.row += stream.first_row
            text.text = one.broken.of_bytes(text.text, source, text.row)
            yield text
        return
    for row, record, damaged, key in _rows(opening, stream, one, text_columns(one.select), advance_to):
        if (document := one.select.document(record, source, row, damaged=damaged)) is not None:
            document.id = document.id or key
            yield document


def _goes_on(texts: Iterator[Document]) -> Iterator[Document]:
    """The blocks of a part whose document does not end with it."""
    for text in texts:
        text.more = True
        yield text


def _rows(
    opening: _Opening, stream: Input, one: _Pass, choose: Choose | None, advance_to: Callable[[float], None]
) -> Iterator[tuple[int, Any, bool, str | None]]:
    """(number, row, whether its bytes were no UTF-8, the name that the container gives it)."""
    source, chunks, errors = stream.source, opening.chunks, one.errors
    if opening.kind == "parquet":
        if stream.size is None or opening.packed:
            hint = "save it, unpacked, and name it"
            raise UserError("Parquet can be read only from a plain file", where=source, hint=hint)
        reached = 0.0
        for part, batch in read_parquet(stream, choose):
            advance_to(reached)  # before the rows: who counts text at that moment has that of the batches before
            for number, row in batch:
                yield number, row, False, None
            reached = part
    elif opening.kind == "arrow":
        place = replace(stream, size=None) if opening.packed else stream
        for batch in read_arrow(chunks, opening.head, place, choose):
            for number, row in batch:
                yield number, row, False, None
    elif opening.kind == "tar":
        ending = () if stream.end is None else (bytes(1024),)  # of a part: what the end of a tar looks like
        fields = one.select.fields if choose else None
        for number, row, key in read_tar(chain(chunks, ending), source, errors, fields, stream.first_row):
            yield number, row, False, key
    elif opening.kind == "csv":
        yield from ((*row, None) for row in _table(regroup(chunks), stream, one, choose))
    else:
        blocks = regroup(chunks)
        if opening.kind == "json":
            found = read_objects(blocks, source, errors)
        else:
            found = read_jsonl(blocks, source, errors, stream.first_row)
        yield from ((*each, None) for each in found)


def _table(blocks: Iterator[bytes], stream: Input, one: _Pass, choose: Choose | None) -> Iterator[Row]:
    """A table without the column is an error where the user named it, and no text where a directory holds it."""
    lacking: list[UserError] = []

    def check(names: list[str]) -> None:
        if choose is not None and (problem := one.select.lacking(names, stream.source)):
            lacking.append(problem)

    rows = read_table(blocks, stream.source, one.errors, check)
    for row in rows:
        if lacking:
            break
        yield row
    if lacking and stream.named:
        raise lacking[0]
    if lacking:
        one.report.add(stream.source, "a table without the column", lacking[0].what)


def _nothing(part: float) -> None:
    """Nobody counts."""
