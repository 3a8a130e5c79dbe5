"""Text that is no UTF-8: noticed while it is read, and said in one line. Nothing is changed or left out.

A byte-level tokenizer takes any bytes, so a file in UTF-16 or Latin-1 would be learned or encoded without a word, as
pairs of bytes that no other text holds.
"""

import codecs
from collections.abc import Iterable, Iterator

from llmtool.core.corpus.document import ReadReport

MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
"""Byte order marks; that of UTF-32 begins like UTF-16's."""

NUL_SHARE = 0.1
"""NUL bytes from which on a text without a mark is taken for UTF-16: half of Latin text, a quarter of mixed, is NUL."""


def watched(blocks: Iterable[bytes], source: str, report: ReadReport) -> Iterator[bytes]:
    """The same blocks; at their end, or where reading stops, a note in `report` if they were no UTF-8.

    Costs 1.4 ms for each MB, 0.5 ms where it is ASCII.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    wrong = nul = size = 0
    mark: str | None = None
    try:
        for block in blocks:
            if not size:
                mark = next((name for bom, name in MARKS if block.startswith(bom)), None)
            text = decoder.decode(block)
            wrong += 0 if text.isascii() else _undecoded(text)
            nul += block.count(0)
            size += len(block)
            yield block
    finally:
        wrong += len(decoder.getstate()[0])  # a character that the text ends in the middle of
        if line := _line(mark, wrong, nul, size):
            report.note(source, line)


def wide(head: bytes) -> tuple[str, str] | None:
    """Why what begins so holds no rows of UTF-8, and what converts it; None where it may."""
    mark = next((name for bom, name in MARKS if head.startswith(bom)), None)
    if mark:
        return f"begins as {mark} does, and rows are read as UTF-8", f"iconv -f {mark} -t UTF-8 converts it"
    if (nul := head.count(0)) > NUL_SHARE * len(head):
        what = f"{nul / len(head):.0%} of its first bytes are NUL (UTF-16?), and rows are read as UTF-8"
        return what, "iconv -f UTF-16 -t UTF-8 converts it"
    return None


def _undecoded(text: str) -> int:
    """Bytes that belong to no character: each is one surrogate, which only "ignore" writes as nothing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return len(text) - len(text.encode("utf-8", "ignore").decode())
    return 0


def _line(mark: str | None, wrong: int, nul: int, size: int) -> str | None:
    kind = ""
    if mark:
        found, kind = f"begins as {mark} does", mark
    elif size and nul > NUL_SHARE * size:
        found, kind = f"{nul / size:.0%} of its bytes are NUL (UTF-16?)", "UTF-16"
    elif wrong:
        share = f"{wrong / size:.1%}" if wrong > size / 2000 else f"{wrong:,}"
        found, kind = f"{share} of its bytes are no UTF-8 (Latin-1?)", "LATIN1"
    elif nul:
        found = f"holds {nul:,} NUL bytes"
    else:
        return None
    return f"{found}; read as it is" + (f" (iconv -f {kind} -t UTF-8 converts)" if kind else "")
