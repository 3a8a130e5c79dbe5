"""Files that are read: plain ones, of a bounded size, or a line that says why not.

A pipe that nobody writes to is waited for for ever, and /dev/zero has no end: where a file is wanted, they are refused
by name. Text of a corpus and logs may come from a pipe (`-`, <(zcat x)), but not from a device (`refuse_device`).
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

from llmtool.core.run.errors import UserError, explain_os_error

LARGEST = 1 << 30
"""Bytes of the largest file that is read whole, unless something else is said."""
_KINDS = (
    (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def require_plain(path: str | Path) -> int:
    """Bytes of a plain file, links followed; a UserError for anything else."""
    try:
        found = os.stat(path)  # noqa: PTH116 (Path("") would be the current directory)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise UserError(f"is {name}, wanted a file", where=str(path))
    return found.st_size


def open_plain(path: str | Path) -> BufferedReader:
    """A plain file, opened for reading."""
    require_plain(path)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise unreadable(path, error) from None


def read_plain(path: str | Path, *, largest: int = LARGEST, wanted: str = "what is read here") -> bytes:
    """All bytes of a plain file."""
    if require_plain(path) > largest:
        raise UserError(f"larger than {largest >> 20} MiB: too large for {wanted}", where=str(path))
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def read_text(path: str | Path, *, largest: int = LARGEST, wanted: str = "text") -> str:
    """All text of a plain file in UTF-8."""
    try:
        return read_plain(path, largest=largest, wanted=wanted).decode()
    except UnicodeDecodeError:
        raise UserError(f"not UTF-8, so not {wanted}", where=str(path)) from None


def refuse_device(path: str | Path, mode: int) -> None:
    """A device where text is wanted: nothing but what this process was given (a terminal, /dev/stdin) and /dev/null."""
    device = stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
    given = os.path.realpath(path).startswith(("/dev/pts/", "/dev/tty", "/dev/null", "/dev/console", "/proc/"))
    if stat.S_ISSOCK(mode) or (device and not given):
        raise UserError(f"is {'a device' if device else 'a socket'}, wanted a file or a pipe", where=str(path))


def unreadable(path: str | Path, error: OSError | ValueError) -> UserError:
    """The one line for a file that cannot be opened or read; a ValueError is of a name with a NUL in it."""
    reason = explain_os_error(error) if isinstance(error, OSError) else "no name of a file"
    return UserError(f"cannot read: {reason}", where=str(path))
