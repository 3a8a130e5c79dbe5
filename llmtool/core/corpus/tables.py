"""Tables as text: CSV and TSV with a line of column names, as rows."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, zip_longest

from llmtool.core.corpus.document import RowErrors
from llmtool.core.corpus.jsonl import Row, is_damaged
from llmtool.core.corpus.kinds import BOM
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted

_DELIMITERS = ",\t;|"
_LARGEST_CELL = 1 << 28


def read_table(
    blocks: Iterable[bytes], source: str, errors: RowErrors, check: Callable[[list[str]], None]
) -> Iterator[Row]:
    """Rows below the line of names, which `check` may refuse; numbered from 1. More cells than names: left out.

    Cells that a row leaves out at its end are empty: spreadsheets and Debian's tables write so.
    """
    import csv

    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))
    lines = _lines(blocks)
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=first.count)
    last: list[str] = []  # lines of the row at hand
    table = csv.reader(_kept(chain([first] if first else [], lines), last), delimiter=delimiter)
    row, held = 0, list[str]()
    try:
        names = next(table, [])
        if names:
            check(names)
        last.clear()
        for row, cells in enumerate(table, start=1):
            held = [*last]
            last.clear()
            if not cells:
                continue
            if len(cells) > len(names):
                what = "more cells than column names"
                errors.add(
                    f"{source}:{row}", what, detail=f"{len(cells)}, not {len(names)}: a mark that is not quoted?"
                )
                continue
            yield row, dict(zip_longest(names, cells, fillvalue="")), any(map(is_damaged, cells))
        # A row that takes another line in has not ended.
        if held and len([*csv.reader([*held, "x"], delimiter=delimiter)]) == 1:
            what = (
                f"the quotation mark of a cell is not closed: the file's last {counted(len(held), 'line')} are one row"
            )
            errors.report.note(f"{source}:{row}", what)
    except csv.Error as error:
        raise UserError(
            f"not a table: {error}", where=f"{source}:{row + 1}", hint="for plain text give --input-format text"
        ) from None


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Lines with their ends; a quoted cell may hold several. CR ends a line where the first one does not end in LF."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest, end = "", "\n"
    for number, block in enumerate(blocks):
        text = rest + decoder.decode(block.removeprefix(BOM) if number == 0 else block)
        if number == 0 and "\n" not in text and "\r" in text[:-1]:
            end = "\r"
        *whole, rest = text.split(end)
        yield from (line + "\n" for line in whole)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def _kept(lines: Iterable[str], last: list[str]) -> Iterator[str]:
    for line in lines:
        last.append(line)
        yield line
