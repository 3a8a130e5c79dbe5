"""`llmtool train` and `llmtool eval` as commands: exit statuses, signals, one line for what is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.core.model.families import save
from tests.processes import await_event, cpu_budget


def llmtool(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmtool", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=cpu_budget(120))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "t.npy"
    np.save(path, np.random.default_rng(0).integers(0, 97, 3000).astype(np.uint16))
    return path


SMALL = ("--model", "30K", "--length", "16", "--batch", "64", "--lr", "0.01", "--device", "cpu", "--holdout", "0.1")


def test_sigterm_saves_exits_4_and_the_same_command_goes_on(tokens: Path, tmp_path: Path) -> None:
    settings = tmp_path / "train.toml"
    settings.write_text("steps = 1200\nsave-every = 400\neval-every = 400\n")
    words = ["train", tokens, "-o", tmp_path / "out", *SMALL, "--config", settings]
    command = [sys.executable, "-m", "llmtool", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "out" / "metrics.jsonl"
    await_event(process, lambda: log.is_file() and log.stat().st_size > 0)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 4, stderr
    assert "the same command goes on from there" in stderr
    steps = len(log.read_text().splitlines())
    assert [int(name) for name in os.listdir(tmp_path / "out" / "checkpoints")] == [steps]
    changed = llmtool(*words, "--lr", "0.02")
    assert (changed.returncode, len(changed.stderr.splitlines())) == (1, 1)
    assert "--lr: 0.01 -> 0.02" in changed.stderr
    rest = llmtool(*words, "--json")
    assert rest.returncode == 0, rest.stderr
    assert f"resumed after step {steps}" in rest.stderr
    report = json.loads(rest.stdout)
    assert report["schema"] == "llmtool.train/1"
    assert report["step"] == 1200
    again = llmtool(*words)
    assert again.returncode == 0
    complete, following = again.stderr.splitlines()
    assert "complete already, nothing to do" in complete
    assert following.startswith("next: ")
    assert json.loads(llmtool(*words, "-q", "--json").stdout)["complete"] is True


def test_a_dry_run_does_nothing(tokens: Path, tmp_path: Path) -> None:
    done = llmtool("train", tokens, "-o", tmp_path / "out", *SMALL, "--epochs", 2, "--dry-run")
    plan = json.loads(done.stdout)
    assert plan["steps"] == 2 * 2700 // 64
    assert plan["parameters"] == pytest.approx(30_000, rel=0.25)
    assert not (tmp_path / "out").exists()


def test_a_wrong_key_in_a_config_names_the_flag(tokens: Path, tmp_path: Path) -> None:
    settings = tmp_path / "train.toml"
    settings.write_text('set = ["dsmoe.share=1"]\n')
    done = llmtool("train", tokens, "-o", tmp_path / "out", *SMALL, "--config", settings)
    assert "no such method in use" in done.stderr
    settings.write_text("setz = 1\n")
    done = llmtool("train", tokens, "-o", tmp_path / "out", *SMALL, "--config", settings)
    assert "did you mean 'set'" in done.stderr


def test_eval(tokens: Path, tmp_path: Path) -> None:
    model = save(tmp_path / "model", "llama3")
    done = llmtool("eval", "loss", model, "--data", f"held={tokens}", "--length", 32)
    assert done.returncode == 0, done.stderr
    assert "nats/token" in done.stdout
    assert "held" in done.stdout
    done = llmtool("eval", "loss", model, "--data", tokens, "--json")
    assert json.loads(done.stdout)["schema"] == "llmtool.eval-loss/1"
    done = llmtool("eval", "niah", model, "--samples", 2, "--length", 32, "--depth", 0.5, "--json")
    assert json.loads(done.stdout)["cells"][0]["length"] == 32
    done = llmtool("eval", "niah", model, "--samples", 2, "--length", 32, "--quiet")
    assert "100%" in done.stdout
    done = llmtool("eval", "loss", tmp_path / "none", "--data", tokens)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
