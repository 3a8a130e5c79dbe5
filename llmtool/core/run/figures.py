"""Figures: checked before the work, written whole, and marked as ours, since no run.json stands beside them."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmtool.core.run.atomic import atomic_file, check_output, is_stream
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.outputs import refuse_overlap, tidy

MARK = "llmtool"
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": MARK},
    "svg": {"Creator": MARK, "Date": None},
    "pdf": {"Creator": MARK, "CreationDate": None},
}
"""Formats, the mark in each, and what would differ from day to day."""


def claim_figure(path: Path | None, *, read: Iterable[str | Path] = (), force: bool = True) -> None:
    """Refuse a figure that could not be drawn there: `claim_file` for figures.

    force: whether a figure of ours is replaced; nobody else's file is, ever.
    """
    if path is None:
        return
    if _kind(path) not in _METADATA:
        hint = f"name it {', '.join('.' + kind for kind in _METADATA)}"
        raise UserError(f"cannot draw {path.suffix or 'a file without a suffix'}", where=str(path), hint=hint)
    require("matplotlib", extra="plots", why="for --plot")
    refuse_overlap([path], read)
    if is_stream(path):
        return
    check_output(path)
    tidy(path, [path])
    if not path.exists() or not path.stat().st_size:
        return
    if MARK.encode() not in path.read_bytes():
        raise UserError("exists already, and is no figure of llmtool", where=str(path), hint="write elsewhere")
    if not force:
        raise UserError("exists already", where=str(path), hint="use --force to replace it")


def save_figure(sheet: Any, path: Path, dpi: int = 150) -> None:
    """Write a matplotlib figure in the format of its name, whole or not at all."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it works without a writable home, but complains
    kind = _kind(path)
    with atomic_file(path) as file:
        sheet.savefig(file, format=kind, dpi=dpi, metadata=_METADATA[kind])


def _kind(path: Path) -> str:
    return path.suffix.lower().lstrip(".")
