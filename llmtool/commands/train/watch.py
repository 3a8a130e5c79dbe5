"""What a run tells while it goes, and the signals that end it early."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmtool.commands.train.job import METRICS, TOKENIZER, Job
from llmtool.core.run.console import Console

if TYPE_CHECKING:
    from llmtool.core.train.loop import Row


def _ignore(row: "Row") -> None:
    """Where another process keeps the record."""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM or Ctrl-C has come; a second Ctrl-C does what it always does."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(came)
        return

    def note(number: int, _: object) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watch(job: Job, leader: bool, resumed: int, console: Console) -> "Iterator[Callable[[Row], None]]":
    """What a row goes to: metrics.jsonl, the bar, TensorBoard; nothing but in the leading process."""
    from llmtool.core.train.jumps import Jumps
    from llmtool.core.train.metrics import Metrics, read_rows
    from llmtool.core.train.summary import Board

    if not leader:
        yield _ignore
        return
    total = job.plan.schedule.steps * job.data.tokens
    with Metrics(job.output / METRICS, resumed) as metrics, console.progress("training", total, "tokens") as bar:
        board = Board(job.tensorboard) if job.tensorboard else None
        bar.update(resumed * job.data.tokens)
        jumps = Jumps(row["loss"] for row in read_rows(metrics.path))
        told = False

        def record(row: "Row") -> None:
            nonlocal told
            if row["step"] == 1 and job.tokenizer:
                row = {**row, TOKENIZER: job.tokenizer}
            metrics.write(row)
            mean, above = jumps.mean, jumps.above(row["loss"])
            if above is not None and not told:
                told = True
                console.warn(jump_line(row, mean, above, job.optimizer.lr))
            bar.update(row["tokens"])
            bar.describe(f"loss {row['loss']:.4f}")
            if board:
                board.write(row)
            for name, found in row.get("eval", {}).items():
                console.detail(f"step {row['step']:,}: {name} {found['loss']:.4f}")

        try:
            yield record
        finally:
            if board:
                board.close()


def jump_line(row: "Row", mean: float, above: float, rate: float) -> str:
    """What a jump of the loss says, and what to do."""
    return (
        f"step {row['step']:,}: the loss is {row['loss']:.2f}, {above:.2f} above its mean so far ({mean:.2f}); --lr "
        f"{rate:g} may be too high for these weights: a lower one, more --warmup, or --max-loss-jump to stop by itself"
    )
