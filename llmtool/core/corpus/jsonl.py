"""Rows of JSON: JSON Lines, one object a line, and arrays of objects, or objects one after another over several lines.

The standard json module on decoded lines reads 10 KB rows at about 300 MB/s a core, so no faster parser is needed.
Lines are decoded here and not by `json.loads`, which guesses UTF-16 and lets encoded surrogates pass.
"""

import codecs
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from llmtool.core.corpus.blocks import MAX_ROW, bounded_lines
from llmtool.core.corpus.document import RowErrors
from llmtool.core.corpus.kinds import BOM
from llmtool.core.run.errors import UserError

Row = tuple[int, Any, bool]
"""Number of the row, what it holds, and whether its bytes were no UTF-8 (they stand in it as U+DC80..U+DCFF)."""

_HINT = "JSONL has one complete object a line"
_INVALID = "not valid JSON"
_BEYOND = "write it otherwise, or leave the row out"


def read_jsonl(blocks: Iterable[bytes], source: str, errors: RowErrors, before: int = 0) -> Iterator[Row]:
    """What each line holds, its number as the row's; blank lines are counted. before: lines that were cut off."""
    decode = json.JSONDecoder().decode
    for row, line in enumerate(bounded_lines(blocks, source), start=before + 1):
        if row == 1:
            line = line.removeprefix(BOM)
        if not line or line.isspace():
            continue
        damaged = 0
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            text, damaged = line.decode("utf-8", "surrogateescape"), error.start + 1
        try:
            yield row, decode(text), damaged > 0
        except (ValueError, RecursionError) as error:
            where = f"{source}:{row}"
            if damaged:
                errors.add(where, "not valid UTF-8", detail=f"byte {damaged} of the line")
            else:
                reason, detail = _wrong(error)
                errors.add(where, reason, detail=detail, hint=_HINT if reason == _INVALID else _BEYOND)


def read_objects(blocks: Iterable[bytes], source: str, errors: RowErrors) -> Iterator[Row]:
    """The items of an array of any length, or objects one after another, as `jq .` prints them.

    As a stream; behind a fault nothing can be told apart any more.
    """
    items = _Items(blocks)
    array = items.skip("[")
    if not array and not items.begins("{"):
        what = "neither an array nor an object"
        errors.add(source, _INVALID, detail=what, hint='an array looks like [{"text": "..."}]')
        return
    row = 0
    if array and items.skip("]"):
        return
    while array or not items.ended():
        row += 1
        try:
            value = items.next()
        except (ValueError, RecursionError) as error:
            if items.held > MAX_ROW:
                raise UserError(f"a row of more than {MAX_ROW >> 20:,} MiB", where=f"{source}:{row}") from None
            reason, detail = _wrong(error)
            if not detail:
                reason = f"{reason}; the rest is not read"
            errors.add(
                f"{source}:{row}",
                reason,
                detail=detail and f"{detail}; the rest is not read",
                hint="" if detail else _BEYOND,
            )
            return
        yield row, value, items.damaged
        if not array or items.skip(","):
            continue
        if not items.skip("]"):
            errors.add(f"{source}:{row}", _INVALID, detail="the array does not end; the rest is not read")
        return


class _Items:
    """Values one after another in a text that arrives in blocks."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._ended, self._first = "", 0, False, True
        self._decode = json.JSONDecoder().raw_decode
        self.damaged = False

    @property
    def held(self) -> int:
        """Characters that are read and not given out."""
        return len(self._text) - self._at

    def skip(self, mark: str) -> bool:
        """Step over white space, and over `mark` if it comes next."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more(1):
                break
        if self._text.startswith(mark, self._at):
            self._at += 1
            return True
        return False

    def begins(self, mark: str) -> bool:
        """Whether `mark` comes next, behind white space."""
        self.skip("\0")  # white space only
        return self._text.startswith(mark, self._at)

    def ended(self) -> bool:
        """Whether nothing but white space is left."""
        self.skip("\0")
        return self._at == len(self._text)

    def next(self) -> Any:
        """The next value; ValueError if there is none."""
        self.skip("\0")  # white space only
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:
                # Twice as much before the next try: a long value is not parsed again for each block.
                if self.held > MAX_ROW or not self._more(max(1, self.held)):
                    raise
                continue
            size = end - self._at
            if end == len(self._text) and self._more(1):
                continue  # a number may go on
            self._at += size  # and not `end`: reading on moves the text to its beginning, also where nothing comes
            return value

    def _more(self, wanted: int) -> bool:
        """Read on, at least `wanted` characters where there are as many."""
        if self._ended:
            return False
        parts = [self._text[self._at :]]
        self._at = got = 0
        while got < wanted:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                parts.append(self._decoder.decode(b"", final=True))
                break
            part = self._decoder.decode(block)
            if self._first and part:
                part, self._first = part.removeprefix("\ufeff"), False
            parts.append(part)
            got += len(parts[-1])
        self._text = "".join(parts)
        self.damaged = is_damaged(self._text)
        return got > 0


def is_damaged(text: str) -> bool:
    """Whether bytes that were no UTF-8 stand in a text, as U+DC80..U+DCFF."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in set(text))


def _wrong(error: Exception) -> tuple[str, str]:
    """Why a value is left out, as it is counted, and what is particular to this one."""
    if isinstance(error, RecursionError):
        return "JSON nested too deeply", ""
    if isinstance(error, json.JSONDecodeError):
        return _INVALID, f"{error.msg} at column {error.colno}"
    return f"JSON with a number of more than {sys.get_int_max_str_digits():,} digits", ""
