"""Units of a stage over processes of this machine, or through Ray; who makes which unit changes no byte."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require

Engine = Literal["local", "ray"]
Work = Callable[[int], None]
Make = Callable[[], Work]
"""Called once in each process; both it and its arguments can be pickled, what it returns need not be."""

_work: Work | None = None


@dataclass(frozen=True)
class Means:
    """How the work is done; changes no byte of it."""

    workers: int
    console: Console
    engine: Engine = "local"
    force: bool = False

    def run(self, stage: Stage, units: Sequence[int], make: Make, label: str) -> None:
        """Units of a stage."""
        run_units(stage, units, make, workers=self.workers, engine=self.engine, console=self.console, label=label)


def run_units(
    stage: Stage,
    units: Sequence[int],
    make: Make,
    *,
    workers: int,
    engine: Engine = "local",
    console: Console,
    label: str,
) -> None:
    """Do those units that are not done yet."""
    left = [unit for unit in units if not stage.is_done(unit)]
    if len(left) < len(units):
        console.detail(f"{label}: {len(units) - len(left)} of {len(units)} units were done already")
    if not left:
        return
    with console.progress(label, len(units), "units") as bar:
        bar.advance(len(units) - len(left))
        for _ in _over(left, make, workers, engine):
            bar.advance(1)


def _over(units: list[int], make: Make, workers: int, engine: Engine) -> Iterable[Any]:
    if len(units) == 1 or (workers == 1 and engine == "local"):
        return map(make(), units)
    if engine == "ray":
        return _with_ray(units, make, workers)
    return _with_processes(units, make, min(workers, len(units)))


def _with_processes(units: list[int], make: Make, workers: int) -> Iterator[Any]:
    """Fresh processes with one thread each: forks of a process with BLAS threads hang."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (make, os.getpid()))
    try:
        futures = [pool.submit(_one, unit) for unit in units]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, perhaps for want of memory",
            hint="run the command again, it goes on where it stopped; fewer --workers take less memory",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin(make: Make, parent: int) -> None:
    """Once in each process, which ends with its parent, however that ends."""
    global _work
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _work = make()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _one(unit: int) -> None:
    assert _work is not None
    _work(unit)


class RayWorker:
    """What an actor of Ray Data holds: the work, made once."""

    def __init__(self, make: Make) -> None:
        self._work = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the row's unit."""
        self._work(int(row["unit"]))
        return row


def _with_ray(units: list[int], make: Make, workers: int) -> Iterator[Any]:
    require("ray", extra="ray", why="for --engine ray")
    data: Any = require("ray.data", extra="ray", why="for --engine ray")
    rows = data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
    data.DataContext.get_current().enable_progress_bars = False
    pool = data.ActorPoolStrategy(size=min(workers, len(units)))
    yield from rows.map(RayWorker, fn_constructor_args=(make,), compute=pool).iter_rows()
