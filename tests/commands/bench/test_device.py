"""bench device: a rehearsal on the CPU of what a GPU gets; nothing that was measured is lost, nothing is done twice."""

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

import torch

from llmtool.commands.bench.device import child, kernels, models, report, run
from llmtool.commands.bench.device.child import AGAIN, BROKEN, ROWS, Log
from llmtool.commands.bench.device.plan import CASES, ORDER, SHARES, Job, jobs_of, parts_of
from llmtool.commands.bench.device.predictions import page
from llmtool.core.bench.predict import BELIEVED, MACHINES, machine_of, predicted
from llmtool.core.bench.rows import append, read
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.commands.bench.command import bench
from tests.processes import PATIENCE

JOB = Job("ops", "swiglu")


def raises() -> list[dict[str, Any]]:
    raise ZeroDivisionError("division by zero")


def test_a_rehearsal(tmp_path: Path) -> None:
    """The command: every part runs, the report is complete, at most 8 files, and a second call has nothing to do."""
    out = tmp_path / "out"
    words = ["device", "swiglu", "--out", str(out), "--cpu", "--budget", "900", "--json"]
    done = bench(*words)
    assert done.returncode == 0, done.stderr + (out / "stderr.log").read_text()
    assert done.stderr.splitlines()[0].startswith("a rehearsal, without a GPU: ")
    found = json.loads(done.stdout)
    assert found["left"] == []
    assert list(found["parts"]) == list(SHARES)
    assert all(each["rows"] and not each["failed"] for each in found["parts"].values()), found
    page = (out / "report.md").read_text()
    for title in report.SECTIONS:
        assert f"## {title}" in page
    assert "A rehearsal on a CPU" in page
    assert len(list(out.iterdir())) <= 8
    rows = read(out / ROWS)
    assert {row["model"] for row in report.of(rows, "decode")} == set(models.MODELS)
    before = (out / ROWS).read_bytes()
    assert bench(*words).returncode == 0
    assert (out / ROWS).read_bytes() == before


def test_a_killed_part_leaves_its_rows_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed from outside after its first unit; the next process does the others and not that one."""
    started: list[subprocess.Popen[bytes]] = []
    popen, statuses = subprocess.Popen, list[int | None]()

    def kept(*words: Any, **how: Any) -> "subprocess.Popen[bytes]":
        started.append(popen(*words, **how))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", kept)
    thread = threading.Thread(
        target=lambda: statuses.append(run.run_job(tmp_path, Job("big", "all"), time.time() + PATIENCE, "cpu"))
    )
    thread.start()
    while not any(row.get("event") == "end" for row in read(tmp_path / ROWS)):
        time.sleep(0.05)
        assert thread.is_alive()
    started[0].send_signal(signal.SIGKILL)
    thread.join()
    first = [row for row in report.of(read(tmp_path / ROWS), "big") if row["unit"] == "rms_norm"]
    assert first
    assert statuses == [-signal.SIGKILL]
    assert not run.done(tmp_path, Job("big", "all"))
    assert run.run_job(tmp_path, Job("big", "all"), time.time() + PATIENCE, "cpu") == 0
    rows = read(tmp_path / ROWS)
    assert [row["unit"] for row in rows if row.get("event") == "begin"].count("rms_norm") == 1
    assert {row["op"] for row in report.of(rows, "big") if row["passed"]} == set(kernels.BIG)
    assert run.done(tmp_path, Job("big", "all"))
    assert not run.done(tmp_path, JOB)


def test_a_broken_device_costs_one_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process passes over the unit that broke it; one that does not even begin is not tried again."""
    units = ["one", "two", "three"]
    calls = []

    def process(out: Path, job: Job, until: float, place: str) -> int:
        calls.append(job)
        log = Log(out, job.part, job.name, until)
        for unit in units:
            if unit == "two" and unit not in log.over:
                log.write(event="begin", unit=unit)
                return -signal.SIGSEGV
            log.unit(unit, lambda unit=unit: [{"passed": True, "said": unit}])  # type: ignore[misc]
        return log.status()

    monkeypatch.setattr(run, "run_process", process)
    assert run.run_job(tmp_path, JOB, time.time() + 900, "cpu") == 0
    assert [row["said"] for row in report.of(read(tmp_path / ROWS), "ops")] == ["one", "three"]
    assert len(calls) == 2
    assert "its process ended with -11 in two" in "\n".join(report.failures(read(tmp_path / ROWS)))
    monkeypatch.setattr(run, "run_process", lambda *_: 1)
    assert run.run_job(tmp_path, Job("tune", "swiglu"), time.time() + 900, "cpu") == 1


def test_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises is a row; what has no time is left; what ran into its limit twice is passed over."""
    log = Log(tmp_path, *("ops", "swiglu"), time.time() + 900)
    log.unit("raises", raises)
    log.unit("late", lambda: [{"a": 1}], need=1000)
    assert log.status() == AGAIN
    assert "ZeroDivisionError" in report.of(read(tmp_path / ROWS), "ops")[0]["failed"]
    for _ in range(2):
        assert "slow" not in Log(tmp_path, "ops", "swiglu", 0.0).over
        append(tmp_path / ROWS, {"event": "process", "part": "ops", "job": "swiglu", "status": -9, "open": "slow"})
    assert "slow" in Log(tmp_path, "ops", "swiglu", 0.0).over
    monkeypatch.setattr(child, "healthy", lambda: False)
    lost = Log(tmp_path, "ops", "rope", time.time() + 900)
    lost.unit("breaks", raises)
    lost.unit("next", lambda: [{"a": 1}])
    assert lost.status() == BROKEN
    assert [row["unit"] for row in report.of(read(tmp_path / ROWS), "ops") if row["job"] == "rope"] == ["breaks"]


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append(file, {"a": 1})
    file.write_bytes(file.read_bytes() + b'{"b": ')
    append(file, {"c": 3})
    assert read(file) == [{"a": 1}, {"c": 3}]


def test_errors_are_one_line(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cpu": True, "console": Console(-1)}
    with pytest.raises(UserError, match="did you mean 'decode'"):
        run.device(tmp_path / "a", parts="env,decod", **settings)
    with pytest.raises(UserError, match="no part is named"):
        run.device(tmp_path / "a", parts=",", **settings)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").touch()
    with pytest.raises(UserError, match="no run of this command"):
        run.device(tmp_path / "b", parts="env", **settings)
    run.begin(tmp_path / "c", {**run.identity("cpu"), "device": "another"})
    with pytest.raises(UserError, match="was begun elsewhere: device another"):
        run.device(tmp_path / "c", parts="env", **settings)


def test_the_plan_and_the_predictions_name_what_there_is() -> None:
    assert set(ORDER) == set(OPS) == set(BELIEVED) == set(CASES)
    assert parts_of("tune, env") == ["env", "tune"]
    assert [job.name for job in jobs_of("ops", ["swiglu", "dsmoe_ffn", "rms_norm"])] == [
        "rms_norm",
        "swiglu",
        "dsmoe_ffn",
    ]
    for op, shapes in CASES.items():
        spec = load_spec(op)
        for shape in shapes:
            assert shape.sizes.keys() == spec.cases("large")[0].sizes.keys()
            for direction in spec.directions:
                for name, ceilings in MACHINES.items():
                    floor = ceilings.floor(spec.flops(shape, direction), spec.bytes(shape, torch.bfloat16, direction))
                    assert (predicted(spec, shape, direction, name) or 0) > floor
    assert machine_of("NVIDIA H100 80GB HBM3") == "H100"
    assert machine_of("NVIDIA A100") is None


def test_the_predictions_in_the_docs_are_these() -> None:
    """They may change with a kernel, before it is measured: predictions.py says how the file is made."""
    written = Path(run.__file__).parents[4] / "docs" / "results" / "kernels" / "predictions.md"
    if not written.exists():
        pytest.skip("no source tree")
    assert written.read_text() == page()


def test_large_cases_are_large() -> None:
    """More than 2^31 elements in a tensor that a kernel's offsets span: by the sizes, nothing is allocated."""
    for op, (sizes, small, _, _) in kernels.BIG.items():
        spec = load_spec(op)
        assert sizes.sizes.keys() == small.sizes.keys() == spec.cases("odd")[0].sizes.keys()
        names = {"rope": ("rows", "heads", "tokens", "size"), "grouped_gemm": ("rows", "out"),
                 "shared_softmax_attention": ("layers", "batch", "heads", "places", "size")}  # fmt: skip
        span = 1
        for name in names.get(op, ("rows", "width" if "width" in sizes.sizes else "inner")):
            span *= sizes[name]
        assert span > 1 << 31, op
