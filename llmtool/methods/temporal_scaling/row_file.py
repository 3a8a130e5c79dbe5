"""Tables of runs, a row each, as the laws over runs read them: CSV of any delimiter, Markdown, JSONL, a JSON array."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_text
from llmtool.core.run.json_file import parse_json
from llmtool.methods.temporal_scaling.logs.columns import flatten

Row = tuple[int, dict[str, Any]]
"""The line that a row stands in (of an array its number), and its cells by name, empty where it has none."""
_DECIMAL_COMMA = re.compile(r"([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)")


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; what is nested in an object is named by its path, `hyperparameters/params`."""
    text = read_text(path, wanted="CSV or JSONL").removeprefix("\ufeff")
    return _objects(text, path) if text.lstrip()[:1] in ("[", "{") else _cells(text, path)


def _cells(text: str, path: Path) -> list[Row]:
    first = next(iter(text.lstrip().splitlines()), "")
    delimiter = max(",;\t|", key=first.count)
    header: list[str] | None = None
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if delimiter == "|":
                cells = cells[1:-1] if cells[:1] == [""] and cells[-1:] == [""] else cells
            if not "".join(cells).strip("-: "):
                continue  # an empty line, or the rule under a Markdown header
            if delimiter == ";":
                cells = [_decimal(cell) for cell in cells]
            if header is None:
                header = cells
            else:
                cells += [""] * (len(header) - len(cells))
                rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise UserError(f"not CSV: {error}", where=str(path)) from None
    return rows


def _decimal(cell: str) -> str:
    """3,25 as 3.25, since cells are cut at semicolons."""
    match = _DECIMAL_COMMA.fullmatch(cell)
    return f"{match[1]}.{match[2]}" if match else cell


def _objects(text: str, path: Path) -> list[Row]:
    if text.lstrip().startswith("["):
        try:
            held = list(enumerate(parse_json(text), start=1))
        except ValueError as error:
            raise UserError(f"not JSON: {error}", where=str(path)) from None
    else:
        held = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                held.append((number, parse_json(line)))
            except ValueError as error:
                hint = "JSONL has an object a line"
                raise UserError(f"not JSON: {error}", where=f"{path}:{number}", hint=hint) from None
    for number, row in held:
        if not isinstance(row, dict):
            raise UserError("a row that is no object", where=f"{path}:{number}")
    return [(number, dict(flatten(row))) for number, row in held]
