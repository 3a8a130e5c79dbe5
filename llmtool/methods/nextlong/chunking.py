"""Documents into chunks of paragraphs or sentences: ranges of their text, as `reference.chunk` cuts it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.readers import Format, TextMode
from llmtool.core.corpus.readers import Reading as TextReading
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


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a document, or why it is left out."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "", "not valid UTF-8"
    return text, "" if text and not text.isspace() else "empty"
