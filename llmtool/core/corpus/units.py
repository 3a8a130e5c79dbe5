"""Units of a stage over processes of this machine, or through Ray; who makes which unit changes no byte."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal

from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import sweep
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require

Engine = Literal["local", "ray"]
Work = Callable[[int], None]
Make = Callable[[], Work]
"""Called once in each process; both it and its arguments can be pickled, what it returns need not be."""

_work: Work | None = None
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Means:
    """How the work is done; changes no byte of it."""

    workers: int
    console: Console
    engine: Engine = "local"
    force: bool = False

    def run(
        self, stage: Stage, units: Sequence[int], make: Make, label: str, tasks: Sequence[Sequence[int]] | None = None
    ) -> None:
        """Units of a stage; tasks: the same units, those together that one process does in order."""
        run_units(
            stage, units, make, workers=self.workers, engine=self.engine, console=self.console, label=label, tasks=tasks
        )


def run_units(
    stage: Stage,
    units: Sequence[int],
    make: Make,
    *,
    workers: int,
    engine: Engine = "local",
    console: Console,
    label: str,
    tasks: Sequence[Sequence[int]] | None = None,
) -> None:
    """Do those units that are not done yet; tasks as in Means.run."""
    left = {unit for unit in units if not stage.is_done(unit)}
    if len(left) < len(units):
        console.detail(f"{label}: {len(units) - len(left)} of {len(units)} units were done already")
    if not left:
        return
    with console.progress(label, len(units), "units") as bar:
        bar.advance(len(units) - len(left))
        groups = [[unit] for unit in units] if tasks is None else tasks
        wanted = [group for task in groups if (group := [unit for unit in task if unit in left])]
        with _swept(stage), closing(_over(wanted, make, workers, engine)) as done:
            for count in done:
                bar.advance(count)


@contextmanager
def _swept(stage: Stage) -> Iterator[None]:
    """An interrupt kills the processes: what they were writing goes."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        sweep(stage.directory)
        raise


def _over(tasks: list[list[int]], make: Make, workers: int, engine: Engine) -> Generator[int]:
    """Numbers of units, as they are done."""
    if len(tasks) == 1 or (workers == 1 and engine == "local"):
        work = make()
        for task in tasks:
            for unit in task:
                work(unit)
                yield 1
    elif engine == "ray":
        yield from _with_ray(tasks, make, workers)
    else:
        yield from _with_processes(tasks, make, min(workers, len(tasks)))


def _with_processes(tasks: list[list[int]], make: Make, workers: int) -> Iterator[int]:
    """Fresh processes with one thread each: forks of a process with BLAS threads hang.

    An interrupt is the parent's whenever it comes: it waits until a process that is being started has all it reads, and
    then kills them all. One that is interrupted itself, or loses its parent while it starts, would say so at length.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (make, os.getpid()))
    try:
        futures = []
        for task in tasks:
            with _signals_wait():
                futures.append(pool.submit(_task, task))
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, perhaps for want of memory",
            hint="run the command again, it goes on where it stopped; fewer --workers take less memory",
        ) from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals are held back, in a process that is started here too, until `_begin` lets them through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(make: Make, parent: int) -> None:
    """Once in each process, which ends with its parent, however that ends."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _work = make()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _task(units: list[int]) -> int:
    assert _work is not None
    for unit in units:
        _work(unit)
    return len(units)


class RayWorker:
    """What an actor of Ray Data holds: the work, made once."""

    def __init__(self, make: Make) -> None:
        self._work = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the row's units."""
        for unit in row["units"]:
            self._work(int(unit))
        return row


def _with_ray(tasks: list[list[int]], make: Make, workers: int) -> Iterator[int]:
    require("ray", extra="ray", why="for --engine ray")
    data: Any = require("ray.data", extra="ray", why="for --engine ray")
    rows = data.from_items([{"units": task} for task in tasks], override_num_blocks=len(tasks))
    data.DataContext.get_current().enable_progress_bars = False
    pool = data.ActorPoolStrategy(size=min(workers, len(tasks)))
    for row in rows.map(RayWorker, fn_constructor_args=(make,), compute=pool).iter_rows():
        yield len(row["units"])
