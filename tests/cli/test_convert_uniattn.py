"""`llmtool convert uniattn` as a process."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.cli.test_app import run
from tests.core.model.families import save


def test_convert_uniattn(tmp_path: Path) -> None:
    source, output = save(tmp_path / "m", "llama3", num_hidden_layers=4), tmp_path / "out"
    arguments = ("convert", "uniattn", source, output, "--groups", "2:0:4", "--init", "zero")
    plan = json.loads(run(*arguments, "--dry-run", "--json").stdout)
    assert not output.exists()
    assert plan["kv_saving"] == 0.25
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert b"2 of 4 layers follow" in done.stderr
    assert json.loads(done.stdout)["groups"] == [[0, 1], [2, 3]]
    facts = json.loads(run("convert", "inspect", output, "--json").stdout)
    assert facts["kv_bytes_per_token"] == json.loads(done.stdout)["kv_bytes_per_token"][1]
    again = run(*arguments)
    assert (again.returncode, b"complete already, nothing to do" in again.stderr) == (0, True)
    text = run("generate", output, "5 6 7", "--ids", "--max-tokens", "3", "-q")
    assert (text.returncode, len(text.stdout.split())) == (0, 3)
    wrong = run("convert", "uniattn", source, tmp_path / "o", "--groups", "1:0:4")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count(b"\n")) == (1, b"", 1)
