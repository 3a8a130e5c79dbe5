"""The one rule for broken text, whatever command reads it.

Broken is: bytes that are no UTF-8, lone surrogates (half of a UTF-16 pair, as `"\\ud800"` in JSON), and NUL characters.
Documents that hold any are counted by kind and never dropped. `keep` hands the bytes on as they are, so that ids decode
to exactly the input; `replace` writes U+FFFD for each sequence of bytes that is no UTF-8 and for each lone surrogate,
as Unicode recommends. NUL is a character like others and stays. Commands that need characters (nextlong, calibration)
read with `replace`: it is what the kept bytes look like when ids are decoded to text.
"""

import re

from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.corpus.document import ReadReport, RowErrors

INVALID, SURROGATES, NUL = "not UTF-8", "lone surrogates", "NUL"
_SURROGATE = re.compile("[\ud800-\udfff]")
_HINT = "mend the text, or read without --strict"


class BrokenText:
    """Applies the rule to each document or block of one, and counts documents."""

    def __init__(self, report: ReadReport, errors: RowErrors, *, replace: bool) -> None:
        self._report, self._errors, self._replace = report, errors, replace
        self._last: dict[str, tuple[str, int]] = {}
        report.replaced |= replace

    def of_bytes(self, text: bytes, source: str, row: int) -> bytes:
        """Text as a file or a column holds it."""
        if b"\0" in text:
            self._count(NUL, source, row)
        if text.isascii():
            return text
        try:
            text.decode()
        except UnicodeDecodeError as error:
            self._count(INVALID, source, row, f"byte {error.start + 1} of the text")
            return text.decode(errors="replace").encode() if self._replace else text
        return text

    def of_string(self, text: str, source: str, row: int, *, damaged: bool = False) -> bytes:
        """Text as a parser gives it; damaged: the row's bytes were no UTF-8, and stand in it as U+DC80..U+DCFF."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            self._count(INVALID if damaged else SURROGATES, source, row, f"character {error.start + 1} of the text")
            if damaged:
                return self.of_bytes(encode_text(text), source, row)
            data = _SURROGATE.sub("\ufffd", text).encode() if self._replace else encode_text(text)
        if b"\0" in data:
            self._count(NUL, source, row)
        return data

    def _count(self, what: str, source: str, row: int, detail: str = "") -> None:
        """A document counts once for each kind, in however many blocks it comes."""
        if self._last.get(what) == (source, row):
            return
        self._last[what] = (source, row)
        if self._errors.strict and what != NUL:
            self._errors.add(f"{source}:{row}", what, detail=detail, hint=_HINT)
        self._report.broken[what] = self._report.broken.get(what, 0) + 1
