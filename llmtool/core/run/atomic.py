"""Outputs appear whole or not at all: written beside their place, synced, renamed.

A link is followed. A pipe or a device has no whole to wait for and is written to as it is.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmtool.core.run.errors import UserError, explain_os_error

PARTIAL = ".partial"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it does not."""
    path = check_output(path)
    if path.exists() and not path.is_file():
        with _explained_writes(path), path.open("wb") as device:
            yield device
        return
    with _explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    try:
        with _explained_writes(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _explained(path):
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A directory that becomes `path` when the block ends well; an existing one is replaced only then, and whole."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise UserError("not a directory", where=str(path), hint="name another place")
    _require_parent(path)
    with _explained(path):
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
    try:
        with _explained_writes(path):
            yield work
        with _explained(path):
            work.chmod(0o777 & ~_umask())
            _sync_files(work)
            _exchange(work, path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def require_space(path: Path, wanted: int) -> None:
    """Refuse a long write that the disk cannot hold."""
    parent = Path(path).absolute().parent
    if parent.is_dir() and (free := shutil.disk_usage(parent).free) < wanted:
        raise UserError(
            f"not enough disk space: about {wanted / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            where=str(path),
            hint="free some space or write elsewhere",
        )


def check_output(path: Path) -> Path:
    """Where a file can be written, links followed; refused before any work where it cannot."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise UserError("is a directory", where=str(path), hint="name a file")
    _require_parent(path)
    if not os.access(path.parent, os.W_OK):
        raise UserError("cannot write: permission denied", where=str(path.parent))
    return path


def refuse_inputs_as_output(output: Path, inputs: Sequence[str | Path]) -> None:
    """An output that is also read would be lost."""
    for name in inputs:
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise UserError("is also an input", where=str(output), hint="write elsewhere")


def _exchange(work: Path, path: Path) -> None:
    """Put `work` in the place of `path`; what stood there stands there again if that fails."""
    if not path.exists():
        work.rename(path)
        return
    old = work.with_suffix(".old")
    path.rename(old)
    try:
        work.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _sync_files(directory: Path) -> None:
    for file in filter(Path.is_file, directory.rglob("*")):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _require_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UserError("the directory to write into does not exist", where=str(parent), hint=f"mkdir -p {parent}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Our own calls: whatever fails, the output cannot be written."""
    try:
        yield
    except OSError as error:
        hint = "free some space; nothing was written" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise UserError(f"cannot write: {explain_os_error(error)}", where=str(path), hint=hint) from error


@contextmanager
def _explained_writes(path: Path) -> Iterator[None]:
    """The caller's block: an error without a file name comes from writing, any other is the caller's own."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        with _explained(path):
            raise
