"""Waiting for other processes: for what they do, never for so many seconds of a clock that a busy machine stretches."""

import os
import resource
import subprocess
import time
from collections.abc import Callable
from typing import IO, Any

PATIENCE = 1800
"""Seconds after which a process that does not end hangs, on however slow and busy a machine."""


def await_event(process: "subprocess.Popen[Any]", happened: Callable[[], bool]) -> None:
    """Return once it happened; fail if the process ended before."""
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode} before it happened"
        time.sleep(0.02)


def read_terminal(outer: int) -> bytes:
    """All that was written to a terminal whose other end is closed; the descriptor is closed too."""
    said = b""
    try:
        while part := os.read(outer, 1 << 16):
            said += part
    except OSError:  # nothing is left, and nobody writes
        pass
    os.close(outer)
    return said


def has_read(pipe: "IO[Any]") -> bool:
    """Whether the reader of a pipe has taken all that was written into it."""
    import fcntl
    import struct
    import termios

    (unread,) = struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4))
    return bool(unread == 0)


def cpu_budget(seconds: int) -> Callable[[], None]:
    """A preexec_fn: the kernel ends the process, and each of its children, after so many seconds of computing."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    return limit
