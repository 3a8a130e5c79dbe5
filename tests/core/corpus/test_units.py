"""Units over processes and through Ray: each done once, all done, the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Engine, run_units
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.processes import PATIENCE


def make(stage: Stage) -> Callable[[int], None]:
    return partial(write, stage)


def write(stage: Stage, unit: int) -> None:
    if unit == 99:
        raise UserError("unit 99 fails")
    with stage.path(unit, "txt").open("a") as file:  # a unit that is done twice would show
        file.write(f"{unit}\n")
    stage.finish(unit, [stage.path(unit, "txt").name], {"n": unit})


def run(stage: Stage, units: list[int], workers: int, engine: Engine = "local") -> None:
    stage.begin()
    run_units(stage, units, partial(make, stage), workers=workers, engine=engine, console=Console(-1), label="x")


@pytest.mark.parametrize("workers", [1, 3])
def test_each_unit_once(tmp_path: Path, workers: int) -> None:
    stage = Stage(tmp_path / "stage", {})
    run(stage, [0, 1, 2], workers)
    run(stage, list(range(6)), workers)
    assert [stage.path(unit, "txt").read_text() for unit in range(6)] == [f"{unit}\n" for unit in range(6)]
    assert sum(stage.facts(unit)["n"] for unit in range(6)) == 15


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_workers_are_errors_here(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError, match="unit 99 fails"):
        run(Stage(tmp_path / "stage", {}), [0, 99, 1, 2], workers)


def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", {})
    stage.begin()
    with pytest.raises(UserError, match="a worker was killed"):
        run_units(stage, [0, 1], kill, workers=2, console=Console(-1), label="x")


def kill() -> Callable[[int], None]:
    def work(unit: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return work


@pytest.mark.slow
def test_ray_writes_what_processes_write(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    pytest.importorskip("ray.data", reason="the extra ray is not complete")
    import os
    import sys

    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, sys.path)])
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        from llmtool.commands import data
        from llmtool.methods.nextlong import stages
        from tests.methods.nextlong.corpora import sources, tokenizer, write_jsonl

        rows = [{"id": i, "text": text} for i, _, text in sources(40)]
        files = [str(write_jsonl(tmp_path / f"{part}.jsonl", rows[part::4])) for part in range(4)]
        tokenizer().save(tmp_path / "tok.json")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "GROUP_BYTES", 1000)  # less than a row takes: a unit for each
            patch.setattr(stages, "SCORED_BYTES", 1000)  # and 16 seeds a unit
            made = {}
            for engine in ("local", "ray"):
                data.nextlong(
                    files, tmp_path / engine, tokenizer=str(tmp_path / "tok.json"), target=2048, size=512,
                    workers=2, engine=engine,
                )  # fmt: skip
                assert Stage.existing(tmp_path / engine / "work" / "chunks", "").totals()["units"] > len(rows)
                made[engine] = {p.name: p.read_bytes() for p in (tmp_path / engine).glob("samples-*")}
        assert len(made["ray"]) > 1
        assert made["ray"] == made["local"]
    finally:
        ray.shutdown()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_is_done_in_order_by_one_process(tmp_path: Path, workers: int) -> None:
    stage = Stage(tmp_path / "stage", {})
    stage.begin()
    run_units(
        stage, range(6), partial(make_noting, stage), workers=workers, console=Console(-1), label="x",
        tasks=[[0, 2, 4], [1], [3, 5]],
    )  # fmt: skip
    done = [stage.facts(unit) for unit in range(6)]
    for task in ([0, 2, 4], [3, 5]):
        assert len({done[unit]["process"] for unit in task}) == 1
        assert [done[unit]["nth"] for unit in task] == sorted(done[unit]["nth"] for unit in task)


def make_noting(stage: Stage) -> Callable[[int], None]:
    import os
    from itertools import count

    nth = count()

    def work(unit: int) -> None:
        stage.finish(unit, [], {"process": os.getpid(), "nth": next(nth)})

    return work


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_at_any_time_is_silent(tmp_path: Path, number: signal.Signals, group: bool) -> None:
    """While workers start, while they work: no traceback of anybody, and stderr is closed, as nobody is left."""
    code = (
        "import signal\nfrom pathlib import Path\nfrom tests.core.corpus import test_units as here\n"
        "signal.signal(signal.SIGTERM, lambda *_: exit(143))\n"
        f"stage = here.Stage(Path({str(tmp_path / 'stage')!r}), {{}})\n"
        "stage.begin()\nprint('begun', flush=True)\n"
        "work, quiet = here.partial(here.slow, stage), here.Console(-1)\n"
        "try:\n    here.run_units(stage, range(9), work, workers=3, console=quiet, label='x')\n"
        "except KeyboardInterrupt:\n    exit(130)\n"
    )
    for tenths in (0, 1, 2, 3, 5, 8, 12):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(tenths / 10)
        os.killpg(process.pid, number) if group else process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert (said, process.returncode) == (b"", 128 + number)
        assert not list((tmp_path / "stage").glob(".*"))


def slow(stage: Stage) -> Callable[[int], None]:
    def work(unit: int) -> None:
        with atomic_file(stage.path(unit, "txt")) as file:
            file.write(b"x")
            time.sleep(PATIENCE)

    return work
