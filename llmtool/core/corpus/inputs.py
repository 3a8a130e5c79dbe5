"""Inputs as the user names them: files, directories, pipes and standard input, in a fixed order."""

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

from llmtool.core.corpus.blocks import BLOCK
from llmtool.core.run.errors import UserError, explain_os_error

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """One stream of bytes.

    source: path, or "-" for standard input.
    size: bytes on disk; None for standard input, pipes and devices, which have no size and no telling name.
    named: given by the user, not met in a directory: it is read whatever it holds.
    """

    source: str
    size: int | None
    named: bool

    def chunks(self, on_bytes: Callable[[int], None] | None = None) -> Generator[bytes, None, None]:
        """The raw bytes as they are read; `on_bytes` is told of each chunk."""
        try:
            with self._open() as stream:
                while chunk := stream.read(BLOCK):
                    if on_bytes:
                        on_bytes(len(chunk))
                    yield chunk
        except OSError as error:
            raise unreadable(self.source, error) from None

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if self.source != STDIN:
            return Path(self.source).open("rb", buffering=0)
        if sys.stdin is None:
            raise UserError("standard input is closed", hint="pipe text in, or name a file")
        return nullcontext(sys.stdin.buffer)


def find_inputs(inputs: Sequence[str | Path]) -> list[Input]:
    """Every stream to read: names in the given order, directories recursively and sorted.

    Below a named directory hidden files and directories and __pycache__ are passed over, links are not followed.
    """
    if not inputs:
        raise UserError("no input", hint="name a file or a directory, or - for standard input")
    found: list[Input] = []
    for name in map(str, inputs):
        if name == STDIN:
            if any(entry.source == STDIN for entry in found):
                raise UserError("standard input (-) is named twice", hint="it can be read only once")
            found.append(Input(STDIN, None, named=True))
            continue
        try:
            status = os.stat(name)  # noqa: PTH116 (Path("") would be the current directory)
        except OSError as error:
            raise unreadable(name, error) from None
        if S_ISDIR(status.st_mode):
            below = list(_walk(name))
            if not below:
                raise UserError("the directory holds no file", where=name, hint="hidden files are not read")
            found += below
        else:
            found.append(Input(name, status.st_size if S_ISREG(status.st_mode) else None, named=True))
    return found


def total_bytes(inputs: Sequence[str | Path]) -> int | None:
    """Bytes on disk of all inputs, what the `on_bytes` of a complete reading add up to; None if one has no size."""
    total = 0
    for entry in find_inputs(inputs):
        if entry.size is None:
            return None
        total += entry.size
    return total


def unreadable(source: str, error: OSError) -> UserError:
    """The one line for a file that cannot be opened or read."""
    return UserError(f"cannot read: {explain_os_error(error)}", where=source)


def _walk(directory: str) -> Iterator[Input]:
    try:
        with os.scandir(directory) as entries:
            listing = sorted((e for e in entries if not e.name.startswith((".", "__pycache__"))), key=lambda e: e.name)
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file():
                yield Input(entry.path, entry.stat().st_size, named=False)
    except OSError as error:
        raise unreadable(directory, error) from None
