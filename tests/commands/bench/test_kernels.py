"""The benchmark: what is wrong gets no speed, what cannot run says why, figures follow from times."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.bench import kernels as benchmarking
from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.bench.kernels import add_shares, time_op
from llmtool.core.bench.report import HEADER
from llmtool.core.kernels import registry
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.commands.bench.command import bench
from tests.core.bench import planted
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


def test_what_is_timed_is_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarking.time_kernels(cpu=True, seconds=0.01, checks=False, console=Console(0))
    told = capsys.readouterr().err.splitlines()
    assert "measuring its ceilings" in told[0]
    assert told[1] == "timing planted, 1 of 1 op"


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


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(plot=tmp_path / "figures")
    assert (tmp_path / "figures" / "planted.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a directory"):
        run(plot=tmp_path / "file")


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
