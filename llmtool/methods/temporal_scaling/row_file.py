"""Tables of runs, a row each, as the laws over runs read them: CSV of any delimiter, Markdown, JSONL, a JSON array, a
JSON object of columns, Parquet. Packed files are unpacked, and all but Parquet may come through stdin."""

import csv
import io
import re
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.core.corpus.columns import read_parquet
from llmtool.core.corpus.compression import unpack
from llmtool.core.corpus.inputs import Input
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import open_plain, read_plain, require_plain
from llmtool.core.run.json_file import parse_json
from llmtool.methods.temporal_scaling.logs.columns import flatten

Row = tuple[int, dict[str, Any]]
"""The line that a row stands in (of an array its number), and its cells by name, empty where it has none."""
LARGEST = 1 << 30
STDIN = Path("-")
PARQUET = b"PAR1"
CELLS = 10_000_000
"""Of a Parquet file, whose cells may take no room there."""
_UNIT = r"\s*[kKmMbBgGtT]?"
_NUMBER = re.compile(rf"[-+]?[\d.,]*\d(?:[eE][-+]?\d+)?{_UNIT}")
_EITHER = re.compile(rf"[-+]?[1-9]\d{{0,2}},\d{{3}}{_UNIT}")
"""2,962 is a whole number or a fraction."""
_DECIMAL = re.compile(rf"[-+]?\d*,\d+(?:[eE][-+]?\d+)?{_UNIT}")
_POINT = re.compile(rf"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?{_UNIT}")
_POINTS = re.compile(rf"[-+]?\d{{1,3}}(?:\.\d{{3}})+(?:,\d+)?{_UNIT}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; what is nested in an object is named by its path, `hyperparameters/params`."""
    if _is_parquet(path):
        return _parquet(path)
    text = _text(path)
    if text.lstrip()[:1] in ("[", "{"):
        return _with_points(_objects(text, path), path, semicolons=False)
    return _cells(text, path)


def _is_parquet(path: Path) -> bool:
    if path == STDIN:
        return False
    with open_plain(path) as file:
        return file.read(len(PARQUET)) == PARQUET


def _parquet(path: Path) -> list[Row]:
    rows: list[Row] = []
    held = 0
    stream = Input(str(path), require_plain(path), named=True)
    for _, batch in read_parquet(stream, None):
        rows += [(number, dict(flatten(row))) for number, row in batch]
        held += sum(len(row) for _, row in rows[-len(batch) :])
        if held > CELLS:
            raise UserError(f"more than {CELLS:,} cells", where=str(path), hint="keep the columns that the law needs")
    return rows


def _bytes(path: Path) -> bytes:
    if path != STDIN:
        return read_plain(path, largest=LARGEST, wanted="CSV or JSONL")
    if sys.stdin is None:
        raise UserError("standard input is closed", hint="pipe a table in, or name a file")
    data = sys.stdin.buffer.read(LARGEST + 1)
    if data.startswith(PARQUET):
        raise UserError("Parquet can be read only from a plain file", where=str(path), hint="name the file")
    return data


def _text(path: Path) -> str:
    data = bytearray()
    for block in unpack([_bytes(path)], str(path)):
        data += block
        if len(data) > LARGEST:
            raise UserError(f"larger than {LARGEST >> 20} MiB", where=str(path))
    wide = bytes(data[:2]) in (BOM_UTF16_LE, BOM_UTF16_BE)
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not UTF-8, so not CSV or JSONL", where=str(path)) from None


def _uncommented(text: str) -> str:
    """Without the comments above a header, whose lines stay as empty ones; a header may be one, as numpy writes it."""
    lines = text.split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    marked = [at for at in range(first) if lines[at].strip()]
    if marked:
        head, row = lines[marked[-1]].lstrip().lstrip("#"), lines[first]
        cut = max(",;\t|", key=row.count)
        header = row.count(cut) and head.count(cut) == row.count(cut)
        lines[:first] = [""] * first
        lines[marked[-1]] = head if header else ""
    return "\n".join(lines)


def _cells(text: str, path: Path) -> list[Row]:
    text = _uncommented(text)
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
            if header is None:
                header = cells
            else:
                cells += [""] * (len(header) - len(cells))
                rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise UserError(f"not CSV: {error}", where=str(path)) from None
    return _with_points(rows, path, semicolons=delimiter == ";")


def _with_points(rows: Sequence[Row], path: Path, *, semicolons: bool) -> list[Row]:
    """The rows with decimal points, where their decimals stand behind commas.

    A column tells by cells that can be read in one way only; one that has none follows the rest of the file, whose
    other columns have decimal points or decimal commas. semicolons: cells are cut there, as where commas are decimal.
    """
    columns: dict[str, list[str]] = {}
    for _, row in rows:
        for name, cell in row.items():
            if isinstance(cell, str) and _NUMBER.fullmatch(cell):
                columns.setdefault(name, []).append(cell)
    commas = {name: [cell for cell in cells if "," in cell] for name, cells in columns.items()}
    decimal = {name for name, cells in commas.items() if all(map(_DECIMAL.fullmatch, cells))
               and not all(map(_EITHER.fullmatch, cells))}  # fmt: skip
    decimal |= {name for name, cells in columns.items() if any(_european(cell) for cell in cells)}
    open_to = {name for name, cells in commas.items() if cells and name not in decimal
               and all(_EITHER.fullmatch(cell) for cell in cells)}  # fmt: skip
    thousands = any(cells and name not in decimal | open_to for name, cells in commas.items())
    points = any(_POINT.fullmatch(cell) for name in columns.keys() - decimal for cell in columns[name])
    if open_to and not (thousands or points) and (decimal or semicolons):
        decimal |= open_to
    elif open_to and bool(decimal) == (thousands or points):
        name = min(open_to)
        line, cell = next((line, row[name]) for line, row in rows if "," in str(row.get(name)))
        raise UserError(f"{name!r}: {cell} may be a whole number or a fraction", where=f"{path}:{line}",
                        hint=f"write {cell.replace(',', '.')} or {cell.replace(',', '')}")  # fmt: skip
    if not decimal:
        return list(rows)
    return [(line, {name: _pointed(cell) if name in decimal and isinstance(cell, str) else cell
                    for name, cell in row.items()}) for line, row in rows]  # fmt: skip


def _european(cell: str) -> bool:
    """1.234,5 and 70.000.000."""
    return bool(_POINTS.fullmatch(cell)) and ("," in cell or cell.count(".") > 1)


def _pointed(cell: str) -> str:
    """3,25 as 3.25, and 1.234,5 as 1234.5."""
    if not _NUMBER.fullmatch(cell):
        return cell
    return (cell.replace(".", "") if _european(cell) else cell).replace(",", ".")


def _objects(text: str, path: Path) -> list[Row]:
    if text.lstrip().startswith("["):
        try:
            held = list(enumerate(parse_json(text), start=1))
        except ValueError as error:
            raise UserError(f"not JSON: {error}", where=str(path)) from None
    elif (columns := _columns(text)) is not None:
        held = list(enumerate(columns, start=1))
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


def _columns(text: str) -> list[dict[str, Any]] | None:
    """The rows of one object of lists that are equally long, as of pandas; None of anything else."""
    try:
        whole = parse_json(text)
    except ValueError:
        return None
    lists = [each for each in whole.values() if isinstance(each, list)] if isinstance(whole, dict) else []
    if not lists or len(lists) < len(whole) or len({len(each) for each in lists}) > 1:
        return None
    return [dict(zip(whole, row, strict=True)) for row in zip(*lists, strict=True)]
