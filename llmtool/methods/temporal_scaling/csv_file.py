"""Rows of a CSV with a header, as the laws over sizes and over batches read them."""

import csv
import io
from pathlib import Path

from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_text


def read_rows(path: Path) -> list[dict[str, str]]:
    """A dictionary a row, by the names of the header; a cell that is missing is None, as csv has it."""
    text = read_text(path, wanted="CSV").removeprefix("\ufeff")
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"not CSV: {error}", where=str(path)) from None
