"""The parent: jobs one after the other (those that are not timed side by side), each in a process with a limit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmtool.commands import places
from llmtool.commands.bench.device.child import AGAIN, BROKEN, ROWS, Row
from llmtool.commands.bench.device.plan import SHARES, Job, jobs_of, parts_of
from llmtool.commands.bench.machine import find_place, require_torch
from llmtool.commands.bench.settings import DeviceSettings
from llmtool.core.bench.rows import append, read
from llmtool.core.kernels.registry import known_ops
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps

SCHEMA = "llmtool.bench-device/1"
GRACE = 5.0
"""Seconds past its limit after which a process is killed: a unit looks at the clock only before it begins."""
LEAST = 20.0
"""Seconds that a part gets at least, while there are any: importing torch and waking a GPU takes ten."""
START = 3.0
"""Seconds that a process needs to begin: with less nothing is started."""
LOG = "stderr.log"


def device(
    out: Path | None,
    ops: Sequence[str] = (),
    settings: DeviceSettings | None = None,
    *,
    as_json: bool = False,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """`llmtool bench device`: run the parts' jobs that are not done; OUT/report.md is rewritten after each.

    On a CPU it is a rehearsal: tiny shapes, kernels by Triton's interpreter, nothing said of speed.
    """
    asked, out = DeviceSettings.of(settings, named_settings), out or places.DEVICE
    parts, names = parts_of(asked.parts), known_ops(ops)
    require_torch()
    require("triton", extra="kernels", why="to run the kernels")
    from llmtool.commands.bench.device import report

    until = time.time() + asked.budget
    place = find_place("cpu" if asked.cpu else "auto")
    if place.type == "cpu":
        console.info("a rehearsal, without a GPU: tiny shapes, kernels by the interpreter; its times say nothing")
    begin(out, identity(str(place)))
    for number, part in enumerate(parts):
        weight = SHARES[part] / sum(SHARES[each] for each in parts[number:])
        limit = min(until, time.time() + max(LEAST, (until - time.time()) * weight))
        jobs = [job for job in jobs_of(part, names) if not done(out, job)]
        for job, status in run_jobs(out, jobs, limit, str(place), side_by_side(part, str(place))):
            console.info(f"{job}: {said(status)}; {max(0.0, until - time.time()):.0f} s left")
            report.write(out)
    report.write(out)
    left = [str(job) for part in parts for job in jobs_of(part, names) if not done(out, job)]
    found = {"schema": SCHEMA, "out": str(out), **report.summary(read(out / ROWS)), "left": left}
    print(dumps(found) if as_json else report.lines(found))
    return found


def identity(place: str) -> Row:
    """What must be the same where a run is continued: rows of two machines or two programs are no one table."""
    import torch

    from llmtool.core.bench.machine import describe

    facts = describe(torch.device(place))
    return {"device": facts["device"], "commit": facts["commit"], "rehearsal": not place.startswith("cuda"),
            **{name: facts["versions"][name] for name in ("torch", "triton")}}  # fmt: skip


def begin(out: Path, mine: Row) -> None:
    """A new directory, or one that holds a run of the same device and program."""
    file = out / ROWS
    if out.exists() and not file.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("is not empty, and no run of this command", where=str(out), hint="name a new directory")
    out.mkdir(parents=True, exist_ok=True)
    before = next((row["identity"] for row in read(file) if row.get("event") == "start"), None)
    if before is None:
        append(file, {"event": "start", "schema": SCHEMA, "identity": mine})
    elif before != mine:
        other = ", ".join(f"{key} {before.get(key)}, now {mine[key]}" for key in mine if before.get(key) != mine[key])
        raise UserError(f"was begun elsewhere: {other}", where=str(out), hint="name a new directory")


def done(out: Path, job: Job) -> bool:
    """Whether its last process left nothing to do."""
    mine = [row for row in read(out / ROWS) if row.get("event") == "process" and same(row, job)]
    return bool(mine) and mine[-1]["status"] == 0


def same(row: Row, job: Job) -> bool:
    """Whether a row is of this job."""
    return (row.get("part"), row.get("job")) == (job.part, job.name)


def side_by_side(part: str, place: str) -> int:
    """Processes at a time: only what is not timed, and where there are cores for their compilers."""
    return min(8, (os.cpu_count() or 2) // 2) if part == "tests" and place.startswith("cuda") else 1


def run_jobs(
    out: Path, jobs: Sequence[Job], limit: float, place: str, together: int
) -> Iterator[tuple[Job, int | None]]:  # fmt: skip
    """Each with its share of the time until the limit; (job, status), None where there was no time to start it."""

    def one(number: int) -> tuple[Job, int | None]:
        waiting = -(-(len(jobs) - number) // together)
        return jobs[number], run_job(out, jobs[number], time.time() + (limit - time.time()) / waiting, place)

    if together == 1:
        yield from (one(number) for number in range(len(jobs)))
        return
    with ThreadPoolExecutor(together) as pool:
        yield from pool.map(one, range(len(jobs)))


def run_job(out: Path, job: Job, until: float, place: str) -> int | None:
    """Its process; a second one where the first broke and something is left: the unit that broke it is passed over."""
    status: int | None = None
    while status is None or (status not in (0, AGAIN) and status != -signal.SIGKILL):
        if until - time.time() < START:
            return status
        before = open_unit(out, job)
        status = run_process(out, job, until, place)
        unit = open_unit(out, job)
        broken = status not in (0, AGAIN, -signal.SIGKILL)
        append(out / ROWS, {
            "event": "process", "part": job.part, "job": job.name, "status": status, "open": unit, "broken": broken,
        })  # fmt: skip
        if broken and status != BROKEN and unit == before:
            return status  # it does not even begin: another would not either
    return status


def open_unit(out: Path, job: Job) -> str | None:
    """The unit that its last process began and did not end."""
    unit = None
    for row in read(out / ROWS):
        if same(row, job) and row.get("event") in ("begin", "end", "process"):
            unit = row["unit"] if row["event"] == "begin" else None
    return unit


def run_process(out: Path, job: Job, until: float, place: str) -> int:
    """Start it, wait for it, kill it and what it started when it is late; its status."""
    import llmtool

    home = str(Path(llmtool.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))}
    if not place.startswith("cuda"):
        environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "llmtool.commands.bench.device.child",
        str(out),
        job.part,
        job.name,
        str(until),
        place,
    ]
    with (out / LOG).open("ab") as errors:
        process = subprocess.Popen(
            command, env=environment, stdout=errors, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return process.wait(max(0.1, until + GRACE - time.time()))
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return -signal.SIGKILL
            raise


def said(status: int | None) -> str:
    """For people."""
    words = {0: "done", AGAIN: "something is left", None: "no time", -signal.SIGKILL: "killed at its limit"}
    return words.get(status, f"ended with {status}")
