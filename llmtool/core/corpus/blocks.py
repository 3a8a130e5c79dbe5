"""Regrouping of a byte stream: blocks of one size, documents cut where no token is, lines of bounded length.

Blocks are a function of the content alone. How a pipe delivers bytes, or how a file is compressed, changes nothing
downstream, and a limit on the bytes read stops at the same place everywhere.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import count, repeat

from llmtool.core.bpe.vocabulary import LONGEST_PIECE, decode_text, encode_text, part_end
from llmtool.core.corpus.document import Document
from llmtool.core.run.errors import UserError

BLOCK = 1 << 20
"""Bytes read at once, and the size at which a document is handed on in parts."""

MAX_ROW = 1 << 30
"""Longest JSONL row in bytes. A longer one is another format, or hostile: a row has to be held whole."""

# The greedy `.*` jumps to the end and walks back, so the usual cost is the length of one word.
_LAST_ASCII_CUT = re.compile(rb".*[0-9A-Za-z](?=[ \n])", re.DOTALL)
_LAST_CUT = re.compile(r".*(?:\S\n(?=[^\W_])|[^\W_](?=[ \n]))", re.DOTALL)  # [^\W_]: a letter or number of any script


_CONTEXT = 8  # bytes before a block that may matter: a character of 4, or one and a newline


def safe_cut(buffer: bytes) -> int:
    """A place near the end where `buffer` can be cut in two without changing a single token; 0 if there is none.

    It lies (a) before a space or newline that follows a letter or number, or (b) between a newline that follows no
    white space and a letter or number. There, every pattern of the pre-tokenizers (`none` apart) begins a new piece,
    whether it reads the whole or the two parts:

    - (a) No alternative goes on from a letter or number to white space: runs of them and contractions end before it,
      and only a piece that ends in punctuation takes newlines along. (b) One newline between two other characters is
      a piece of its own or ends one of punctuation, and no alternative takes it in front of a letter or number.
    - The left part cannot tell that it ends: what looks ahead, `\\s+(?!\\S)`, does so behind white space. In (a) the
      left part has none there, and in (b) the single newline is a piece by `\\s+` alone just as well.
    - The right part cannot tell that it begins: no pattern looks behind.

    Neither space, newline nor what follows a newline is the second half of a canonical composition with what is
    before it, so NFC of the parts is the parts of NFC. ASCII text finds (a) without being decoded.
    """
    if match := _LAST_ASCII_CUT.match(buffer):
        return match.end()
    found = _LAST_CUT.match(decode_text(buffer))
    return len(encode_text(found.group())) if found else 0


def regroup(chunks: Iterable[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """The same bytes in blocks of exactly `size`; only the last may be shorter."""
    parts: list[bytes] = []
    held = 0
    for chunk in chunks:
        if not parts and len(chunk) == size:  # a plain file: nothing to copy
            yield chunk
            continue
        parts.append(chunk)
        held += len(chunk)
        if held >= size:
            joined = b"".join(parts)
            full = held - held % size
            for start in range(0, full, size):
                yield joined[start : start + size]
            parts = [joined[full:]] if full < held else []
            held -= full
    if held:
        yield b"".join(parts)


class Cutter:
    """The part of a long document that is not handed on yet; linear in time for any content.

    Only new bytes are searched for a safe cut: a gigabyte without one is scanned once and then handed on whole.
    Beyond `most` bytes, which nobody wants, the document ends. Beyond `longest` bytes without a safe cut (for training:
    what it would count in parts all the same) it is cut like a piece, in front of a character.
    """

    def __init__(self, *, whole: bool, most: int | None = None, longest: int | None = None) -> None:
        self._whole = whole
        self._longest = sys.maxsize if longest is None else longest
        self._most = sys.maxsize if most is None else most
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, block: bytes) -> bytes:
        """Take a block in, and give back what can be handed on: b"" while there is no safe cut."""
        before = self._parts[-1][-_CONTEXT:] if self._parts else b""
        self._parts.append(block)
        self._held += len(block)
        if self._held < BLOCK or (self._whole and self._held <= self._longest):
            return b""
        place = 0 if self._whole else safe_cut(before + block)
        cut = place - len(before)
        if not place or cut < 0:
            return self._pieces() if self._held > self._longest else b""
        self._parts[-1] = block[:cut]
        text = b"".join(self._parts)
        self._parts = [block[cut:]]
        self._held = len(block) - cut
        return text

    def _pieces(self) -> bytes:
        """A whole number of a long piece's parts: training makes the same parts of it."""
        text = b"".join(self._parts)
        end = part_end(text, (len(text) - 1) // LONGEST_PIECE * LONGEST_PIECE)
        self._parts, self._held = [text[end:]], len(text) - end
        return text[:end]

    @property
    def full(self) -> bool:
        """Whether as much is held as anyone wants, without a place to cut."""
        return self._held >= self._most

    def rest(self) -> bytes:
        """Everything held, as the end of the document; the cutter is empty afterwards."""
        text = b"".join(self._parts)
        if len(text) > self._most:
            text = text[: self._most].decode("utf-8", "ignore").encode() or text[: self._most]
        self._parts = []
        self._held = 0
        return text


def file_document(
    blocks: Iterable[bytes], source: str, *, whole: bool, most: int | None = None, longest: int | None = None
) -> Iterator[Document]:
    """One document, the whole file, in parts that join to it; none if the file is empty.

    most: no part needs to be longer than this, the rest of the file is not read then. longest: as in Cutter.
    """
    cutter = Cutter(whole=whole, most=most, longest=longest)
    for block in blocks:
        if text := cutter.feed(block):
            yield Document(text, source, 1, more=True)
        if cutter.full:
            break
    if text := cutter.rest():
        yield Document(text, source, 1)


def line_documents(
    blocks: Iterable[bytes], source: str, *, whole: bool, longest: int | None = None
) -> Iterator[Document]:
    r"""One document a line, without its "\n" or "\r\n"; empty lines are documents, so rows are line numbers.

    About 0.3 us a line. A line longer than a block is handed on in parts, like a file.
    """
    cutter = Cutter(whole=whole, longest=longest)
    row = 1
    for block in blocks:
        first, *lines = block.split(b"\n")
        if text := cutter.feed(first):
            yield Document(text, source, row, more=True)
        if not lines:
            continue
        yield Document(cutter.rest().removesuffix(b"\r"), source, row)
        last = lines.pop()
        if b"\r\n" in block:
            lines = [line.removesuffix(b"\r") for line in lines]
        yield from map(Document, lines, repeat(source), count(row + 1))
        row += 1 + len(lines)
        cutter.feed(last)  # shorter than a block: nothing comes back
    if text := cutter.rest():
        yield Document(text, source, row)


def separated_documents(
    blocks: Iterable[bytes],
    source: str,
    separator: bytes,
    *,
    whole: bool,
    most: int | None = None,
    longest: int | None = None,
) -> Iterator[Document]:
    """What stands between separators, number by number; nothing after the last one is no document, an empty one is.

    A document longer than a block is handed on in parts, like a file. most, longest: as in file_document.
    """
    cutter = Cutter(whole=whole, most=most, longest=longest)
    row, begun = 1, b""  # begun: what may be the beginning of a separator
    for block in blocks:
        *ended, rest = (begun + block).split(separator)
        for last in ended:
            if text := cutter.feed(last):
                yield Document(text, source, row, more=True)
            yield Document(cutter.rest(), source, row)
            row += 1
        known = len(rest) - len(separator) + 1
        begun = rest[max(0, known) :]
        if known > 0 and (text := cutter.feed(rest[:known])):
            yield Document(text, source, row, more=True)
        if cutter.full:
            break
    if text := cutter.feed(begun):
        yield Document(text, source, row, more=True)
    if text := cutter.rest():
        yield Document(text, source, row)


def bounded_lines(blocks: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Lines without their newline, for readers that need a line whole; UserError beyond MAX_ROW."""
    parts: list[bytes] = []
    held = 0
    row = 1
    for block in blocks:
        first, *lines = block.split(b"\n")
        parts.append(first)
        held += len(first)
        if held > MAX_ROW:
            raise UserError(
                f"a row of more than {MAX_ROW >> 20:,} MiB",
                where=f"{source}:{row}",
                hint="JSONL has one object a line; for plain text give --input-format text",
            )
        if lines:
            yield b"".join(parts)
            last = lines.pop()
            yield from lines
            row += 1 + len(lines)
            parts = [last]
            held = len(last)
    if held:
        yield b"".join(parts)
