"""Tables: CSV and TSV with a header, exports of experiment trackers with gaps and prefixed columns included."""

import csv
from collections.abc import Iterator

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.row import STEP, Row, from_mapping, loss_name

TRACKER_STEPS = frozenset({"_step"})


def is_table(text: str) -> bool:
    """Whether the first line is a header with a step among its columns."""
    return any(name in STEP | TRACKER_STEPS for name in _header(text)[1])


def _header(text: str) -> tuple[str, list[str]]:
    first = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=delimiter), [])
    return delimiter, [cell.strip().lower() for cell in cells]


def read(text: str, name: str) -> Iterator[Row]:
    """The rows; columns are named "loss", or "my-run - train/loss" as trackers export them."""
    delimiter, header = _header(text)
    names = [column.rpartition(" - ")[2] for column in header]
    runs = {column.rpartition(" - ")[0] for column in header if " - " in column and not column.endswith("__step")}
    if len(runs) > 1:
        raise UserError(f"columns of {len(runs)} runs mixed: {', '.join(sorted(runs)[:3])}", where=name,
                        hint="export one run a file")  # fmt: skip
    losses = [column for column in names if loss_name(column)]
    if doubled := next((column for column in losses if losses.count(column) > 1), None):
        raise UserError(f"column {doubled!r} stands there twice", where=name)
    lines = csv.reader(text.lstrip().splitlines()[1:], delimiter=delimiter)
    for number, cells in enumerate(lines, start=2):
        if len(cells) > len(names):
            raise UserError(f"{len(cells)} cells under {len(names)} columns", where=f"{name}:{number}")
        record = {column: cell for column, cell in zip(names, cells, strict=False) if cell.strip()}
        if (row := from_mapping(record)) is not None and not row.empty:
            yield row
