"""`llmtool` and `python -m llmtool`."""

import codecs
import gc
import os
import signal
import sys
from types import FrameType

SPINS = "10000"
"""Rounds that a thread of OpenMP waits in before it sleeps, some 10 us; libgomp's own choice is 300,000."""


def main() -> None:
    """Run the command line; an early Ctrl-C is one line too, and a termination cleans up as a failure does."""
    # A tokenizer file is 100,000 small tuples, none in a cycle: collecting while they are made costs 15% of start-up.
    gc.set_threshold(100_000, 20, 20)
    # Before torch loads OpenMP: threads that spin for one which other work keeps from running made decoding 15 times
    # slower than one thread on a busy machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        os.environ.setdefault("KMP_BLOCKTIME", "0")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    try:
        _settle_streams()
        from llmtool.cli.app import build

        build()(prog_name="llmtool")
    except KeyboardInterrupt:  # before a command was chosen; the rest is the command line's
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        gc.freeze()  # all goes with the process: looking for what else could go took 5% of a start


def _settle_streams() -> None:
    """Standard streams that are closed (cron, daemons) or cannot say every character (LC_ALL=C).

    A closed one is opened in the wrong direction: reading or writing fails as it would have, in a line, and no file
    that is opened later gets its number. Without stderr, messages go nowhere and the work is done.
    """
    ways = ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_RDWR))
    for number, name, way in ways:
        try:
            os.fstat(number)
        except OSError:
            while (opened := os.open(os.devnull, way)) < number:  # the lowest free number, and those below are taken
                pass
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        settle = getattr(stream, "reconfigure", None)
        if settle is not None and stream is not sys.stdin:
            ascii_only = codecs.lookup(stream.encoding or "ascii").name == "ascii"
            settle(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


def _terminate(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
