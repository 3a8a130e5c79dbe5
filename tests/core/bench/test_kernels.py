"""The benchmark: what is wrong gets no speed, what cannot run says why, figures follow from times."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.bench import kernels as benchmarking
from llmtool.core.bench.baseline import slower
from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.bench.kernels import add_shares, rotations, time_op
from llmtool.core.bench.report import HEADER, markdown, table_rows
from llmtool.core.bench.timer import Timing, measure
from llmtool.core.kernels import registry
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.core.bench import planted
from tests.core.bench.command import bench
from tests.processes import cpu_budget

CPU = torch.device("cpu")
CEILINGS = Ceilings(1e9, 1e12, "float32")


@pytest.fixture(autouse=True)
def _only_the_planted_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "OPS", {"planted": "tests.core.bench.planted:SPEC"})
    monkeypatch.setattr("llmtool.core.bench.ceilings.measure_ceilings", lambda *_: CEILINGS)


def timed() -> list[dict[str, Any]]:
    rows = list(time_op(planted.SPEC, planted.SPEC.cases("small")[:1], torch.float32, CPU, seconds=0.01))
    add_shares(rows, CEILINGS)
    return rows


def run(**settings: Any) -> dict[str, Any]:
    return benchmarking.time_kernels(cpu=True, seconds=0.01, checks=False, console=Console(-1), **settings)


def test_rows() -> None:
    rows = {(row["direction"], row["implementation"]): row for row in timed()}
    assert len(rows) == 12
    for direction in ("forward", "training"):
        for name in ("reference", "ours"):
            row = rows[direction, name]
            assert row["passed"]
            assert row["low"] <= row["seconds"] <= row["high"]
            assert row["share"] == pytest.approx(row["floor"] / row["seconds"])
            assert row["floor"] == 2 * 64 * 128 * 4 / 1e9
            assert row["bound"] == "memory"
        assert "no such kernel image" in rows[direction, "crashes"]["failed"]
        assert "AttributeError" in rows[direction, "gone"]["failed"]
        assert rows[direction, "absent"]["skipped"] == "no_such_package not installed"
        assert rows[direction, "gpu"]["skipped"] == "needs a GPU"


@pytest.mark.parametrize("factor", [2.001, float("nan")])
def test_a_planted_error_gets_no_speed(factor: float, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(planted, "FACTOR", factor)
    report = run(as_json=True)
    json.loads(capsys.readouterr().out)
    ours = [row for row in report["rows"] if row["implementation"] == "ours"]
    assert len(ours) == 4
    for row in ours:
        assert not {"seconds", "share", "flops_per_s", "bytes_per_s"} & row.keys()
        assert row["failed"]
    run()
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if " ours " in line and " ms " not in line]
    assert sum("FAILED" in line for line in printed.out.splitlines() if " ours " in line) == 4, lines
    assert "no speed is given" in printed.err


def test_the_right_one_is_timed_and_compared(capsys: Any) -> None:
    report = run(markdown=True)
    assert all("seconds" in row for row in report["rows"] if row["implementation"] == "ours")
    printed = capsys.readouterr().out
    assert "No GPU: the times are of CPU code" in printed
    assert "needs a GPU" in printed
    header = next(line for line in printed.splitlines() if line.startswith("| case"))
    assert header.count("|") == len(HEADER) + 1


def test_sizes(capsys: Any) -> None:
    report = run(sizes="rows=5,width=7", as_json=True)
    assert {tuple(row["case"].values()) for row in report["rows"]} == {(5, 7)}
    for wrong, says in (("rows=0", "--sizes rows 0: wanted 1 to"), ("depth=3", "planted"), ("huge", "planted")):
        with pytest.raises(UserError, match=says):
            run(sizes=wrong)


def test_baseline(tmp_path: Path, capsys: Any) -> None:
    report = run(as_json=True)
    file = tmp_path / "old.json"
    capsys.readouterr()
    for row in report["rows"]:
        if "seconds" in row:
            row["seconds"] /= 1000
    file.write_text(json.dumps(report))
    later = run(as_json=True, baseline=file, max_slowdown=2.0)
    assert later["compared"] == len(later["slower"]) == 4
    report["machine"]["device"] = "another"
    file.write_text(json.dumps(report))
    with pytest.raises(UserError, match="taken on another"):
        run(baseline=file)
    file.write_text("{}")
    with pytest.raises(UserError, match=r"no report of the kind"):
        run(baseline=file)


def test_slower_looks_at_ours_alone() -> None:
    key = {"op": "a", "dtype": "float32", "direction": "forward", "case": {"rows": 1}}
    before = [
        {**key, "implementation": "ours", "own": True, "seconds": 1.0},
        {**key, "implementation": "rival", "own": False, "seconds": 1.0},
    ]
    now = [{**row, "seconds": 1.06} for row in before]
    found, compared = slower(now, before, 1.05)
    assert compared == 1
    assert [row["implementation"] for row in found] == ["ours"]
    assert slower(now, before, 1.07) == ([], 1)
    assert slower(now, [{**row, "case": {"rows": 2}} for row in before], 1.05) == ([], 0)


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(plot=tmp_path / "figures")
    assert (tmp_path / "figures" / "planted.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a directory"):
        run(plot=tmp_path / "file")


def test_markdown_without_rows() -> None:
    assert "| case |" in markdown([], "title", ["note"])
    assert list(table_rows([])) == []


def test_timer_takes_turns() -> None:
    order: list[str] = []
    found = measure({"a": lambda _: order.append("a"), "b": lambda _: order.append("b")}, CPU, 0.001)
    assert set(found) == {"a", "b"}
    changes = sum(x != y for x, y in pairwise(order))
    assert changes >= 2 * found["a"].samples
    assert Timing.of([1.0, 2.0, 3.0, 10.0]) == Timing(2.5, 1.0, 1.75, 4.75, 4)


def test_ceilings() -> None:
    assert CEILINGS.floor(1e12, 1.0) == 1.0
    assert CEILINGS.floor(1.0, 1e9) == 1.0
    assert CEILINGS.bound(1e12, 1.0) == "compute"
    assert CEILINGS.best(Ceilings(2e9, 1e11, "float32")) == Ceilings(2e9, 1e12, "float32")
    assert rotations(1.0, CPU) == 1


def test_command() -> None:
    """The command as a user runs it; a machine whose base packages are missing runs it too."""
    done = bench("kernels", "swiglu", "--cpu", "--sizes", "odd", "--seconds", "0.01", "--no-checks", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "llmtool.bench-kernels/1"
    assert report["machine"]["versions"]["torch"] == torch.__version__
    assert {row["implementation"] for row in report["rows"] if "seconds" in row} == {"reference"}


SCRIPT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "scipy", "tokenizers", "regex", "zstandard", "safetensors"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
sys.argv[1:] = WORDS
from llmtool.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [["bench", "machine", "--cpu"], ["bench", "kernels", "rms_norm", "--cpu", "--sizes", "odd", "--no-checks"]],
    ids=["machine", "kernels"],
)
def test_runs_from_a_source_tree_with_torch_and_rich_alone(words: list[str]) -> None:
    script = SCRIPT.replace("WORDS", repr([*words, *(["--seconds", "0.01"] if "kernels" in words else [])]))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, preexec_fn=cpu_budget(300)
    )
    assert done.returncode == 0, done.stderr
    assert "GB/s" in done.stdout
