"""Tables with a header: CSV, TSV, Markdown, columns in spaces, and exports of experiment trackers with gaps and
prefixed columns, or with a metric a row."""

import csv
import re
from collections.abc import Iterator

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.columns import Chosen, Record
from llmtool.methods.temporal_scaling.logs.names import meaning, words
from llmtool.methods.temporal_scaling.logs.numbers import has_decimal_comma, number

TENSORBOARD = ("wall time", "step", "value")
"""What TensorBoard's page exports of one chart, as CSV and as JSON; which loss it is stands in the file's name only."""
METRIC = frozenset({"key", "metric", "metric name", "tag", "variable", "name"})
SPACY = {"#": "step", "E": "epoch"}
_RULE = re.compile(r"\s*[-=]+(?:\s+[-=]+)+\s*")
"""Under the header of a table in fixed columns, as spaCy prints it."""
TRIED = 3
"""Rows under a header of which nothing is known that must be numbers."""


def is_table(text: str, chosen: Chosen) -> bool:
    """Whether the first line is a header with a step, tokens or epochs among its columns, or one named by hand, or
    stands over rows of numbers."""
    try:
        delimiter, header = _header(text)
        rows = [
            _cells(row, delimiter) for row in _rows("\n".join(text.lstrip().splitlines()[: TRIED + 1]), delimiter, "")
        ]
    except (csv.Error, UserError):
        return False
    by_hand = {name.strip().lower() for name in (chosen.step, chosen.loss) if name}
    plain = [name.rpartition(" - ")[2] for name in header if not {":", "="} & set(name)]
    roles = {held.role for name in plain if (held := meaning(name)) is not None}
    if len(header) < 2:
        return False
    if delimiter != " " and (roles & {"axis", "tokens"} or by_hand.intersection(map(str.lower, header))):
        return True
    numbers = [[number(cell, decimal_comma=True) for cell in row] for row in rows]
    names = all(number(name) is None for name in header)
    return names and bool(rows) and all(len(row) == len(header) and None not in row for row in numbers)


def _header(text: str) -> tuple[str, list[str]]:
    first, *more = text.lstrip("\r\n").splitlines()[:2] or [""]
    if more and _RULE.fullmatch(more[0]):
        return more[0], [SPACY.get(cell, cell) for cell in _by_rule(first, more[0])]
    first = first.lstrip()
    delimiter = max(",;\t|", key=first.count)
    if delimiter not in first:
        return " ", first.lstrip("#").split()
    return delimiter, _cells(next(csv.reader([first], delimiter=delimiter), []), delimiter)


def _by_rule(line: str, rule: str) -> list[str]:
    """The cells of a line under columns as wide as the dashes of a rule, or wider up to the next ones."""
    ends = [match.end() for match in re.finditer(r"[-=]+", rule)]
    return [line[start:end].strip() for start, end in zip([0, *ends], [*ends[:-1], None], strict=False)]


def _cells(cells: list[str], delimiter: str) -> list[str]:
    cells = [cell.strip() for cell in cells]
    if delimiter == "\t" and cells[-1:] == [""]:
        cells = cells[:-1]  # one more at the end of each line
    return cells[1:-1] if delimiter == "|" and cells[:1] == [""] and cells[-1:] == [""] else cells


def _rows(text: str, delimiter: str, name: str) -> Iterator[list[str]]:
    lines = text.lstrip().splitlines()[1:]
    if _RULE.fullmatch(delimiter):
        yield from (_by_rule(line, delimiter) for line in text.lstrip("\r\n").splitlines()[2:] if line.strip())
        return
    if delimiter == " ":
        yield from (line.split() for line in lines)
        return
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error as error:
        raise UserError(f"no table that can be read: {error}", where=name) from None


def read(text: str, name: str, chosen: Chosen) -> Iterator[Record]:
    """The records; columns are named "loss", or "my-run - train/loss" as trackers export them."""
    delimiter, header = _header(text)
    names = [column.rpartition(" - ")[2] for column in header]
    runs = {column.rpartition(" - ")[0] for column in header if " - " in column and not column.endswith("__step")}
    by_hand = next((column for column in header if column.lower() == (chosen.loss or "").strip().lower()), "")
    if len(runs) > 1 and " - " in by_hand:
        run = by_hand.rpartition(" - ")[0]
        names = [column if column == by_hand else own if whose in ("", run) else ""
                 for column in header for whose, _, own in [column.rpartition(" - ")]]  # fmt: skip
    elif len(runs) > 1:
        first = next(column for column in header if " - " in column)
        raise UserError(f"columns of {len(runs)} runs mixed: {', '.join(sorted(runs)[:3])}", where=name,
                        hint=f"name one, such as --loss-column {first!r}")  # fmt: skip
    if tuple(" ".join(words(column)) for column in names) == TENSORBOARD:
        names[-1] = "loss"
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
    kind = next((column for column in names if column.lower() in METRIC), None)
    amount = next((column for column in names if column.lower() == "value"), None)
    for row in rows:
        record = {column: cell for column, cell in zip(names, row, strict=False) if cell and column}
        for column, comma in zip(names, commas, strict=True):
            if comma and column in record:
                record[column] = number(record[column], decimal_comma=True)  # type: ignore[assignment]
        if kind in record and amount in record:  # a metric a row, as MLflow exports them
            record[record.pop(kind)] = record.pop(amount)
        yield record
