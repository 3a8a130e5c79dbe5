"""Tables as text: CSV and TSV with a line of column names, as rows."""

import codecs
from collections.abc import Callable, Iterable, Iterator

from llmtool.core.corpus.document import RowErrors
from llmtool.core.corpus.jsonl import Row, is_damaged
from llmtool.core.corpus.kinds import BOM
from llmtool.core.run.errors import UserError

_DELIMITERS = ",\t;|"
_LARGEST_CELL = 1 << 28


def read_table(
    blocks: Iterable[bytes], source: str, errors: RowErrors, check: Callable[[list[str]], None]
) -> Iterator[Row]:
    """Rows below the line of names, which `check` may refuse; numbered from 1. More cells than names: left out."""
    import csv

    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))
    lines = _lines(blocks)
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=first.count)
    table = csv.reader(_chained(first, lines), delimiter=delimiter)
    row = 0
    try:
        names = next(table, [])
        if names:
            check(names)
        for row, cells in enumerate(table, start=1):
            if not cells:
                continue
            if len(cells) > len(names):
                what = "more cells than column names"
                errors.add(
                    f"{source}:{row}", what, detail=f"{len(cells)}, not {len(names)}: a mark that is not quoted?"
                )
                continue
            # Cells that a row leaves out at its end are empty: spreadsheets and Debian's tables write so.
            yield row, dict(zip(names, cells, strict=False)), any(map(is_damaged, cells))
    except csv.Error as error:
        raise UserError(
            f"not a table: {error}", where=f"{source}:{row + 1}", hint="for plain text give --input-format text"
        ) from None


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Lines with their ends; a quoted cell may hold several."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest = ""
    for number, block in enumerate(blocks):
        text = rest + decoder.decode(block.removeprefix(BOM) if number == 0 else block)
        *whole, rest = text.split("\n")
        yield from (line + "\n" for line in whole)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines
