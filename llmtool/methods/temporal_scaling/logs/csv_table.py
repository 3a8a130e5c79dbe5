"""Tables with a header: CSV, TSV, Markdown, and exports of experiment trackers with gaps and prefixed columns."""

import csv
from collections.abc import Iterator

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.columns import Chosen, Record
from llmtool.methods.temporal_scaling.logs.names import meaning
from llmtool.methods.temporal_scaling.logs.numbers import has_decimal_comma, number


def is_table(text: str, chosen: Chosen) -> bool:
    """Whether the first line is a header with a step, tokens or epochs among its columns, or one named by hand."""
    try:
        _, header = _header(text)
    except csv.Error:
        return False
    by_hand = {name.strip().lower() for name in (chosen.step, chosen.loss) if name}
    plain = [name.rpartition(" - ")[2] for name in header if not {":", "="} & set(name)]
    roles = {held.role for name in plain if (held := meaning(name)) is not None}
    return len(header) > 1 and bool(roles & {"axis", "tokens"} or by_hand.intersection(map(str.lower, header)))


def _header(text: str) -> tuple[str, list[str]]:
    first = text.lstrip().splitlines()[0]
    delimiter = max(",;\t|", key=first.count)
    return delimiter, _cells(next(csv.reader([first], delimiter=delimiter), []), delimiter)


def _cells(cells: list[str], delimiter: str) -> list[str]:
    cells = [cell.strip() for cell in cells]
    return cells[1:-1] if delimiter == "|" and cells[:1] == [""] and cells[-1:] == [""] else cells


def _rows(text: str, delimiter: str, name: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(text.lstrip().splitlines()[1:], delimiter=delimiter)
    except csv.Error as error:
        raise UserError(f"no table that can be read: {error}", where=name) from None


def read(text: str, name: str) -> Iterator[Record]:
    """The records; columns are named "loss", or "my-run - train/loss" as trackers export them."""
    delimiter, header = _header(text)
    names = [column.rpartition(" - ")[2] for column in header]
    runs = {column.rpartition(" - ")[0] for column in header if " - " in column and not column.endswith("__step")}
    if len(runs) > 1:
        raise UserError(f"columns of {len(runs)} runs mixed: {', '.join(sorted(runs)[:3])}", where=name,
                        hint="export one run a file")  # fmt: skip
    losses = [column for column in names if (held := meaning(column)) is not None and held.role == "loss"]
    if doubled := next((column for column in losses if losses.count(column) > 1), None):
        raise UserError(f"column {doubled!r} stands there twice", where=name)
    rows = []
    for line, cells in enumerate(_rows(text, delimiter, name), start=2):
        cells = _cells(cells, delimiter)
        if delimiter == "|" and not "".join(cells).strip("-: "):
            continue  # the rule under a Markdown header
        if len(cells) > len(names):
            raise UserError(f"{len(cells)} cells under {len(names)} columns", where=f"{name}:{line}")
        rows.append(cells)
    commas = [
        has_decimal_comma([row[at] for row in rows if len(row) > at], semicolons=delimiter == ";")
        for at in range(len(names))
    ]
    for row in rows:
        record = {column: cell for column, cell in zip(names, row, strict=False) if cell}
        for column, comma in zip(names, commas, strict=True):
            if comma and column in record:
                record[column] = number(record[column], decimal_comma=True)  # type: ignore[assignment]
        yield record
