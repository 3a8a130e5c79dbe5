"""Figures: checked before the work, written whole, and marked as ours, since no run.json stands beside them."""

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from llmtool.core.run.atomic import Files, atomic_file, check_output, is_stream
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.outputs import refuse_overlap, tidy
from llmtool.core.run.wording import encodable

MARK = "llmtool figure"
KINDS = {"png": ("Software",), "svg": ("Creator", "Date"), "pdf": ("Creator", "CreationDate")}
"""Formats: where the mark stands, and what would differ from day to day and is left out."""


def mark() -> str:
    """What stands in a figure: that it is ours, and a hash of the command that drew it, --force left out."""
    import hashlib

    words = [word for word in sys.argv[1:] if word != "--force"]
    return f"{MARK} {hashlib.sha256(chr(0).join(words).encode(errors='surrogateescape')).hexdigest()[:16]}"


def claim_figure(path: Path | None, *, read: Iterable[str | Path] = (), force: bool = False) -> None:
    """Refuse a figure that could not be drawn there: `claim_file` for figures.

    A figure that the same command drew is drawn again; one of ours that another drew is replaced with `force` alone,
    so every command that draws has that option; nobody else's file is, ever.
    """
    if path is None:
        return
    if _kind(path) not in KINDS:
        hint = f"name it {', '.join('.' + kind for kind in KINDS)}"
        raise UserError(f"cannot draw {path.suffix or 'a file without a suffix'}", where=str(path), hint=hint)
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it works without a writable home, but complains
    require("matplotlib", extra="plots", why="for --plot")
    claim_marked(path, "figure", read=read, force=force)


def claim_marked(path: Path, kind: str, *, read: Iterable[str | Path] = (), force: bool = False) -> None:
    """Refuse a file that is no figure (or page: `kind`) of ours, or one that another command made, without `force`."""
    refuse_overlap([path], read)
    if is_stream(path):
        return
    check_output(path)
    tidy(path, [path])
    held = refuse_unmarked(path, kind)
    if held and not force and mark().encode() not in held:
        raise UserError("exists already", where=str(path), hint="use --force to replace it")


def refuse_unmarked(path: Path, kind: str) -> bytes:
    """Refuse to replace what is no figure (or page) of ours; what stands there, nothing where nothing does."""
    held = path.read_bytes() if path.exists() and not is_stream(path) else b""
    if held and MARK.encode() not in held:
        raise UserError(f"exists already, and is no {kind} of llmtool", where=str(path), hint="write elsewhere")
    return held


def save_figure(sheet: Any, path: Path, dpi: int = 150, files: Files | None = None) -> None:
    """Write a matplotlib figure in the format of its name, whole or not at all; with `files` when they appear."""
    kind = _kind(path)
    metadata = {KINDS[kind][0]: mark(), **dict.fromkeys(KINDS[kind][1:])}

    def allowed() -> None:
        refuse_unmarked(path, "figure")

    _spell_out(sheet)
    if files is not None:
        files.allowed = files.allowed or allowed
    with atomic_file(path, allowed) if files is None else nullcontext(files.open(path)) as file:
        sheet.savefig(file, format=kind, dpi=dpi, metadata=metadata)


def _spell_out(sheet: Any) -> None:
    """In texts, and in labels made while drawing: names of files need not be UTF-8, and no font has a surrogate."""
    for text in sheet.findobj(lambda artist: hasattr(artist, "set_text")):
        text.set_text(encodable(text.get_text()))
    for axis in (each for axes in sheet.axes for each in (axes.xaxis, axes.yaxis)):
        form = axis.get_major_formatter()
        form.format_ticks = lambda values, labels=form.format_ticks: [encodable(label) for label in labels(values)]


def _kind(path: Path) -> str:
    return path.suffix.lower().lstrip(".")
