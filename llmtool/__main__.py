"""`llmtool` and `python -m llmtool`."""

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
        from llmtool.cli.app import build

        app = build()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    app(prog_name="llmtool")


def _terminate(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
