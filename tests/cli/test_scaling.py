"""`llmtool scaling` as a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from llmtool.commands.scaling.settings import Law
from llmtool.methods.temporal_scaling.choice import NAMES
from tests.methods.temporal_scaling.synthetic import log, rows, write_jsonl


def run(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmtool", "scaling", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, check=False, text=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("logs") / "run.jsonl", rows(log("cosine", every=200)))


def test_fit_prints_one_object(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit.json"
    done = run("fit", path, "--fit-until", "50%", "--law", "cooldown", "--json", "-o", out, "--target-loss", "3.1")
    assert done.returncode == 0
    assert done.stderr.startswith("next: llmtool scaling predict ")
    assert len(done.stderr.splitlines()) == 1
    facts = json.loads(done.stdout)
    assert facts["schema"] == "llmtool.scaling-fit/1"
    assert set(facts["final_loss"]) == {"value", "low", "high"}
    assert (facts["law"], facts["confident"]) == ("cooldown", True)
    assert facts["backtest"]["error"] < 0.01
    assert json.loads(out.read_text()) == facts
    told = run("predict", out, "--at", "12000", "--json")
    assert json.loads(told.stdout)["predictions"][0]["step"] == 12000


def test_fit_reads_stdin_and_checks_fail_with_3(path: Path) -> None:
    options = ["--fit-until", "50%", "--law", "power", "-q"]
    done = run("fit", "-", *options, "--max-predicted-loss", "9", "--require-confident", text=path.read_text())
    high = run("fit", path, *options, "--max-predicted-loss", "1")
    assert done.stdout.startswith("-: train loss, fitted on steps 600 to 10,000 of 20,000 (50%)")
    assert high.returncode == 3
    doubtful = "NOT CONFIDENT" in done.stdout
    assert done.returncode == (3 if doubtful else 0)


def test_a_log_of_losses_alone(path: Path) -> None:
    bare = write_jsonl(path.with_name("bare.jsonl"), [{"step": r["step"], "loss": r["loss"]} for r in rows(log())])
    done = run("fit", bare, "-q")
    assert done.returncode == 0
    for part in ("asymptote", "at 40,000", "at 100,000", "at 200,000", "NOT CONFIDENT", "--horizon", "--schedule"):
        assert part in done.stdout
    assert run("fit", bare, "-q", "--require-confident").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "none.jsonl"], "none.jsonl: cannot read: no such file"),
        (["fit", "{log}", "--horizon", "100"], "horizon 100 lies before the last step"),
        (["fit", "{log}", "--fit-until", "50%", "--peak", "1"], "--peak needs --schedule"),
        (["fit", "{log}", "--fit-until", "50%", "--plot", "a.gif"], "cannot draw .gif"),
        (["compare", "{log}"], "two or more"),
        (["positions", "{log}"], "no losses by position"),
    ],
)
def test_bad_input_is_one_clear_line(path: Path, arguments: list[str], says: str) -> None:
    done = run(*(argument.format(log=path) for argument in arguments))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert says in done.stderr


def test_the_choices_are_the_laws_there_are() -> None:
    assert get_args(Law) == ("auto", *NAMES)


@pytest.mark.parametrize("command", [[], ["fit"], ["law"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['llmtool', 'scaling', *{command!r}, '--help']\n"
        "try: runpy.run_module('llmtool', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'numpy', 'scipy', 'rich', 'matplotlib', 'zstandard'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
