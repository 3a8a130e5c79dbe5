"""Regrouping of a byte stream: blocks of one size, documents cut where no token is, lines of bounded length.

Blocks are a function of the content alone. How a pipe delivers bytes, or how a file is compressed, changes nothing
downstream, and a limit on the bytes read stops at the same place everywhere.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import count, repeat

from llmtool.core.corpus.document import Document
from llmtool.core.run.errors import UserError

BLOCK = 1 << 20
"""Bytes read at once, and the size at which a document is handed on in parts."""

MAX_ROW = 1 << 30
"""Longest JSONL row in bytes. A longer one is another format, or hostile: a row has to be held whole."""

# The greedy `.*` jumps to the end and walks back, so the usual cost is the length of one word.
_LAST_SAFE_CUT = re.compile(rb".*[0-9A-Za-z](?=[ \n])", re.DOTALL)


def safe_cut(buffer: bytes) -> int:
    """The last place where `buffer` can be cut in two without changing a single token; 0 if there is none.

    It lies before an ASCII space or newline that follows an ASCII letter or digit. There, every pattern of the
    pre-tokenizers (`none` apart) begins a new piece, whether it reads the whole or the two parts:

    - No alternative goes on from a letter or digit to white space: runs of letters or digits and contractions end
      before it, and only a piece that ends in punctuation takes newlines along. So the whole has a boundary here.
    - The left part cannot tell that it ends. What looks ahead, `\\s+(?!\\S)`, does so at the end of white space,
      and the left part ends in a letter or digit; a run or a contraction stops at its end as it did at the white space.
    - The right part cannot tell that it begins: no pattern looks behind.

    Both sides of the cut are ASCII, so no character is divided. Neither space nor newline is the second half of a
    canonical composition, so NFC of the parts is the parts of NFC.
    """
    match = _LAST_SAFE_CUT.match(buffer)
    return match.end() if match else 0


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
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, block: bytes) -> bytes:
        """Take a block in, and give back what can be handed on: b"" while there is no safe cut."""
        last_byte = self._parts[-1][-1:] if self._parts else b""
        self._parts.append(block)
        self._held += len(block)
        if self._whole or self._held < BLOCK:
            return b""
        cut = safe_cut(last_byte + block)
        if not cut:
            return b""
        cut -= len(last_byte)
        self._parts[-1] = block[:cut]
        text = b"".join(self._parts)
        self._parts = [block[cut:]]
        self._held = len(block) - cut
        return text

    def rest(self) -> bytes:
        """Everything held, as the end of the document; the cutter is empty afterwards."""
        text = b"".join(self._parts)
        self._parts = []
        self._held = 0
        return text


def file_document(blocks: Iterable[bytes], source: str, *, whole: bool) -> Iterator[Document]:
    """One document, the whole file, in parts that join to it; none if the file is empty."""
    cutter = Cutter(whole=whole)
    for block in blocks:
        if text := cutter.feed(block):
            yield Document(text, source, 1, more=True)
    if text := cutter.rest():
        yield Document(text, source, 1)


def line_documents(blocks: Iterable[bytes], source: str, *, whole: bool) -> Iterator[Document]:
    r"""One document a line, without its "\n" or "\r\n"; empty lines are documents, so rows are line numbers.

    About 0.3 us a line. A line longer than a block is handed on in parts, like a file.
    """
    cutter = Cutter(whole=whole)
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
                hint="JSONL has one object a line; for plain text give --format text",
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
