"""One process in a directory at a time, where work goes on for long and a second one would undo it.

    with alone(directory): ...

The kernel lets go when the process ends, however it ends; there is no file of a lock that a killed one could leave.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmtool.core.run import journal
from llmtool.core.run.errors import UserError


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a directory that exists; refused while another process does."""
    while True:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not journal.lock(handle):
                raise UserError(
                    "another process is working there", where=str(directory), hint="wait for it, or write elsewhere"
                )
            if _stands(handle, directory):
                yield
                return
        finally:
            os.close(handle)
        directory.mkdir(parents=True, exist_ok=True)  # the one before has failed, and taken it away


def _stands(handle: int, directory: Path) -> bool:
    try:
        return os.path.samestat(directory.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
