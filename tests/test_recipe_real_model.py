"""recipes/real_model.sh from a checkpoint to its table; a second call trains a row on and leaves the others alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from llmtool import Tokenizer
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import save

RECIPE = Path(__file__).parents[1] / "recipes" / "real_model.sh"
SETTINGS = (
    f"CALIBRATION={STDLIB / 'textwrap.py'}",
    f"TEXTS=code={STDLIB / 'shlex.py'} more={STDLIB / 'queue.py'}",
    "SCORED=128",
    "CALIBRATED=256",
    "LENGTH=32",
)


def test_rows_are_made_once_and_end_in_a_table(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "model", "llama3", 0.3, vocab_size=400, num_hidden_layers=4)
    Tokenizer.train_from_documents(SCRIPTS * 2, 400, special=["<|endoftext|>"]).save(checkpoint / "llmtool.json")
    out = tmp_path / "out"

    def call(only: str, *settings: str) -> dict[str, int]:
        """The rows that are there then, with the time of their writing."""
        command = ["bash", str(RECIPE), str(checkpoint), str(out), f"ONLY=^({only})$", *SETTINGS, *settings]
        environment = {**os.environ, "PYTHON": sys.executable}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        return {path.name: path.stat().st_mtime_ns for path in (out / "rows").iterdir()}

    first = call("dense|dsmoe-best8-50")
    assert sorted(first) == ["dense.json", "dsmoe-best8-50.json"]
    half = json.loads((out / "rows" / "dsmoe-best8-50.json").read_text())
    assert set(half["loss"]) == {"code", "more"}
    assert 0.2 < half["active"]["code"] < 0.8
    assert "| dsmoe-best8-50 |" in (out / "results.md").read_text()
    assert (out / "share.png").stat().st_size
    second = call("dsmoe-best8-50", f"TRAIN={STDLIB / 'textwrap.py'}", "TOKENS=2048", "SEEDS=0")
    assert set(second) - set(first) == {"dsmoe-best8-50+2048+0.json"}
    assert {name: second[name] for name in first} == first
    assert not list((out / "models").iterdir())
