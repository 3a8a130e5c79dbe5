"""The stage `chunk`: documents into chunks of paragraphs or sentences, stored once, as ranges of their documents.

A chunk's text is its document's from its first to its last character, so texts are stored whole, one after another
(NNNNN.text), with the chunks' byte ranges (NNNNN.bounds.npy [chunks, 2]), characters (NNNNN.chars.npy [chunks]) and the
documents (NNNNN.docs.jsonl; NNNNN.docs.npy [docs, 3]: byte in that file, first chunk, source).
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import save_array
from llmtool.core.corpus.document import Document, ReadReport
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.readers import Format, TextMode, read_streams
from llmtool.core.corpus.readers import Reading as TextReading
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.json_file import dumps
from llmtool.methods.nextlong.sentences import Span, characters, sentences, words

Split = Literal["lines", "sentences", "paper"]


@dataclass(frozen=True)
class Reading:
    """How documents are read and cut."""

    size: int
    split: Split
    field: Sequence[str]
    id_field: str | None
    text_mode: TextMode
    include: Sequence[str]
    exclude: Sequence[str]
    input_format: Format
    strict: bool
    source_field: str | None
    licence_field: str

    @property
    def text(self) -> TextReading:
        """How the corpus reader reads it; chunks are made of characters, so broken text becomes U+FFFD."""
        return TextReading(
            field=self.field, id_field=self.id_field, text_mode=self.text_mode, format=self.input_format,
            strict=self.strict, include=self.include, exclude=self.exclude, broken="replace",
        )  # fmt: skip


@dataclass(frozen=True)
class Group:
    """The streams of one unit, each with the label of its source and what its rows' names begin with."""

    streams: list[Input] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)


def spans(text: str, size: int, split: Split = "lines") -> list[Span]:
    """Character ranges of the chunks of a document, as `reference.chunk` cuts it; one newline between two is left out.

    None of them is longer than 1.5 `size` (newlines not counted) but with `paper`; blank ones are left out.
    """
    if len(text) <= size:
        return [(0, len(text))] if text and not text.isspace() else []
    pieces = (
        _sentences(text, 0, len(text), size) if split == "sentences" else _lines(text, size, whole=split == "paper")
    )
    chunks: list[Span] = []
    start = end = length = 0
    held = False
    for begin, stop in pieces:
        if held and length + stop - begin > size:
            chunks.append((start, end))
            start, length = begin, 0
        end = stop
        length += stop - begin
        held = True
    chunks.append((start, end))
    return [(a, b) for a, b in chunks if b > a and not text[a:b].isspace()]


def _lines(text: str, size: int, *, whole: bool) -> Iterator[Span]:
    place = 0
    most = len(text) if whole else size + size // 2
    for paragraph in text.split("\n"):
        stop = place + len(paragraph)
        if stop - place <= most:
            yield place, stop
        else:
            yield from _sentences(text, place, stop, size)
        place = stop + 1


def _sentences(text: str, start: int, stop: int, size: int) -> Iterator[Span]:
    most = size + size // 2
    for begin, end in sentences(text, start, stop):
        if end - begin <= most:
            yield begin, end
            continue
        for first, last in words(text, begin, end):
            if last - first <= most:
                yield first, last
            else:
                yield from characters(text, first, last, size)


def byte_places(data: bytes, places: npt.NDArray[np.int64], text: str) -> npt.NDArray[np.int64]:
    """Byte offsets in UTF-8 `data` of character offsets in `text`, the same document."""
    if len(data) == len(text):
        return places
    begins = np.flatnonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)
    return np.append(begins, len(data))[places]


def chunk_unit(stage: Stage, groups: list[Group], reading: Reading, unit: int) -> None:
    """Read the streams of a unit and write its files; documents that are left out are counted by reason."""
    skipped = ReadReport()
    rejects: dict[str, int] = {}
    # Packed arrays: a unit may hold a million short documents, and Python's objects for one take 0.4 KB.
    bounds, chars, documents = array("Q"), array("I"), array("q")
    sources: dict[str, int] = {}
    digest = hashlib.blake2b(digest_size=16)
    held = described = 0
    with ExitStack() as stack:
        texts = stack.enter_context(atomic_file(stage.path(unit, "text")))
        about = stack.enter_context(atomic_file(stage.path(unit, "docs.jsonl")))
        for document, label, prefix in _documents(groups[unit], reading, skipped):
            text, reason = decoded(document.text)
            if reason:
                rejects[reason] = rejects.get(reason, 0) + 1
                if reason.startswith("not"):
                    skipped.add(f"{document.source}:{document.row}", reason)
                continue
            places = np.array(spans(text, reading.size, reading.split), np.int64)
            bounds.frombytes((held + byte_places(document.text, places.reshape(-1), text)).astype(np.uint64).tobytes())
            kept = document.kept or {}
            source = kept.get(reading.source_field or "", label)
            licence = kept.get(reading.licence_field)
            row = {
                "id": _document_id(document, prefix),
                "source": source,
                **({"licence": licence} if licence else {}),
                "chars": len(text),
                "chunks": len(places),
            }
            # A file's name need not be UTF-8: a lone surrogate becomes its JSON escape.
            line = dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            documents.extend((described, len(chars), sources.setdefault(source, len(sources))))
            chars.extend((places[:, 1] - places[:, 0]).tolist())
            texts.write(document.text)
            about.write(line)
            digest.update(document.text + b"\0" + line)
            held += len(document.text)
            described += len(line)
    save_array(stage.path(unit, "bounds.npy"), np.array(bounds, np.uint64).reshape(-1, 2))
    save_array(stage.path(unit, "chars.npy"), np.array(chars, np.uint32))
    save_array(stage.path(unit, "docs.npy"), np.array(documents, np.int64).reshape(-1, 3))
    names = [stage.path(unit, suffix).name for suffix in ("text", "docs.jsonl", "bounds.npy", "chars.npy", "docs.npy")]
    facts = {
        "documents": len(documents) // 3, "chunks": len(chars), "bytes": held, "chars": sum(chars), "rejects": rejects,
        "sources": list(sources), "digest": digest.hexdigest(), "read": skipped.to_json(),
    }  # fmt: skip
    stage.finish(unit, names, facts)


def _documents(group: Group, reading: Reading, skipped: ReadReport) -> Iterator[tuple[Document, str, str]]:
    keep = [reading.licence_field, *([reading.source_field] if reading.source_field else [])]
    for stream, label, prefix in zip(group.streams, group.labels, group.prefixes, strict=True):
        for document in read_streams([stream], reading.text, keep=keep, report=skipped):
            yield document, label, prefix


def _document_id(document: Document, prefix: str) -> str:
    """The row's own name, or the file's with the row's number; a name that is a number is some other file's as well."""
    if document.id is None:
        return f"{prefix}:{document.row}"
    return f"{prefix}:{document.id}" if document.id.isdecimal() else document.id


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a document, or why it is left out."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "", "not valid UTF-8"
    return text, "" if text and not text.isspace() else "empty"
