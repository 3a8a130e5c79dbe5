"""Rows of a measurement in a file of JSON lines, appended and synced as they come: what was measured is not lost."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_plain
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.outputs import refuse_overlap

Row = dict[str, Any]


def append(path: Path, row: Mapping[str, Any]) -> None:
    """One row, on the disk when this returns. A line that a killed writer has left half is ended first."""
    with path.open("ab+") as file:
        if file.tell() and not _ended(file):
            file.write(b"\n")
        file.write(dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """All rows; half a line, left by a killed writer, is passed over."""
    if not path.exists():
        return []
    found = []
    for line in read_plain(path).split(b"\n"):
        try:
            row = parse_json(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def refuse_existing(path: Path | None, read: Iterable[str | Path] = ()) -> None:
    """Rows of two runs do not belong into one file, nor do they among what the command reads."""
    refuse_overlap([path] if path else [], read)
    if path is not None and (path.exists() or not path.absolute().parent.is_dir()):
        what = "exists already" if path.exists() else "its directory does not exist"
        raise UserError(what, where=str(path), hint="name a new file for the rows")


def _ended(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
