"""What people see while a command works: messages, tables and progress, all on stderr.

stdout carries the result and nothing else. Progress is drawn only on a terminal; rich is imported only when drawn.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Protocol


@contextmanager
def binary_stdout() -> Iterator[IO[bytes]]:
    """stdout for bytes, always buffered.

    Under PYTHONUNBUFFERED sys.stdout.buffer is a raw file: a write into a pipe that closes half way would come back
    short and without an error.
    """
    sys.stdout.flush()
    with open(sys.stdout.fileno(), "wb", closefd=False) as file:
        yield file


class Progress(Protocol):
    """A stage of long work: told how far it is."""

    def update(self, completed: float) -> None:
        """Set the amount done."""
        ...

    def advance(self, amount: float) -> None:
        """Add to the amount done."""
        ...

    def describe(self, label: str) -> None:
        """Change what stands before the bar."""
        ...


class Console:
    """The one console; `verbosity` is -1 with --quiet, 1 with --verbose."""

    bars = True
    """False where bars would be drawn over what somebody types at the same terminal."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self._bar: Any = None

    @property
    def interactive(self) -> bool:
        """Whether to draw: stderr is a terminal that can, and nobody asked for silence."""
        return self.bars and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and self.verbosity >= 0

    def info(self, message: str) -> None:
        """A line for people, dropped with --quiet."""
        if self.verbosity >= 0:
            print(message, file=sys.stderr)

    def detail(self, message: str) -> None:
        """A line for people who asked for --verbose."""
        if self.verbosity > 0:
            print(message, file=sys.stderr)

    def warn(self, message: str) -> None:
        """A warning; shown even with --quiet."""
        print(f"warning: {message}", file=sys.stderr)

    def rich(self, *, stdout: bool = False) -> Any:
        """A rich console that honours NO_COLOR and TERM=dumb."""
        from rich.console import Console as RichConsole

        terminal = (sys.stdout if stdout else sys.stderr).isatty()
        return RichConsole(stderr=not stdout, highlight=False, markup=False, width=None if terminal else 160)

    def table(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        note: str | None = None,
        *,
        result: bool = False,
    ) -> None:
        """A table, numbers to the right; for people on stderr, or as the command's result on stdout."""
        if self.verbosity < 0 and not result:
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console = self.rich(stdout=result)
        console.print(title, style="table.title", soft_wrap=True)  # a table's own is broken at the table's width
        console.print(table)
        if note:
            console.print(f"{note}\n", soft_wrap=True)

    def result(self, lines: Iterable[str]) -> None:
        """The command's result in lines, on stdout."""
        print("\n".join(lines))

    @contextmanager
    def progress(self, label: str, total: float | None, unit: str) -> Iterator[Progress]:
        """A bar with rate and time left; bars opened inside one another are drawn together. unit: "B", or a noun."""
        if not self.interactive:
            yield _Silent()
        elif self._bar:
            yield _Drawn(self._bar, self._bar.add_task(label, total=total, unit=unit))
        else:
            with _bar(self.rich()) as self._bar:
                try:
                    yield _Drawn(self._bar, self._bar.add_task(label, total=total, unit=unit))
                finally:
                    self._bar = None


class _Silent:
    def update(self, completed: float) -> None:
        """Nothing to draw."""

    def advance(self, amount: float) -> None:
        """Nothing to draw."""

    def describe(self, label: str) -> None:
        """Nothing to draw."""


class _Drawn:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def update(self, completed: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=completed)

    def advance(self, amount: float) -> None:
        """Move the bar on."""
        self._bar.advance(self._task, amount)

    def describe(self, label: str) -> None:
        """Change the label."""
        self._bar.update(self._task, description=label)


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class AmountColumn(ProgressColumn):
        """Done, total and rate in the task's own unit."""

        def render(self, task: Task) -> Text:
            unit, scale = task.fields["unit"], 1.0
            if unit == "B":
                unit, scale = "MB", 1e-6
            of = "" if task.total is None else f"/{task.total * scale:,.0f}"
            speed = task.finished_speed or task.speed
            rate = "" if speed is None else f"  {speed * scale:,.1f} {unit}/s"
            return Text(f"{task.completed * scale:,.0f}{of} {unit}{rate}")

    columns = [TextColumn("{task.description}"), BarColumn(bar_width=30), AmountColumn()]
    left = [TextColumn("eta"), TimeRemainingColumn(elapsed_when_finished=True)]
    return Progress(*columns, *left, console=console, transient=True, refresh_per_second=8)


QUIET = Console(verbosity=-1)
"""Where a caller in Python gives none: errors and warnings only."""
