"""Both stages of `posttrain uniattn` in two gloo processes: two jobs of one process, to the end, with the numbers of
one process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("jinja2")

from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.commands.posttrain.sft import uniattn
from llmtool.core.run.console import QUIET
from llmtool.core.train.metrics import read_rows
from tests.commands.posttrain.test_posttraining import base, data, tensors
from tests.processes import PATIENCE

__all__ = ["base", "data"]

SETTINGS: dict[str, Any] = {"template": "plain", "length": 32, "batch": 128, "micro": 1, "steps": 3, "lr": 3e-3}


@pytest.fixture(scope="module")
def shared(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with compensations to train."""
    path = tmp_path_factory.mktemp("u") / "shared"
    convert_uniattn(base, path, groups="2:0:4", init="zero", console=QUIET)
    return path


@pytest.fixture(scope="module")
def one(shared: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("one") / "out"
    uniattn(shared, [str(data)], output, **SETTINGS, valid=[str(data)], device="cpu")
    return output


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_both_stages_end_with_the_numbers_of_one_process(
    shared: Path, data: Path, one: Path, tmp_path: Path, parallel: str
) -> None:
    words = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "llmtool", "posttrain", "uniattn",
        str(shared), str(data), "-o", str(tmp_path / "out"), "--parallel", parallel, "--device", "cpu",
        "--valid", str(data), *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("out.stage1", "out"):
        ours, theirs = (read_rows(place.with_name(name) / "metrics.jsonl") for place in (tmp_path / "out", one))
        for row, wanted in zip(ours, theirs, strict=True):
            assert (row["loss"], row["grad_norm"]) == pytest.approx((wanted["loss"], wanted["grad_norm"]), rel=2e-4)
        held, expected_held = (rows[-1]["eval"]["valid"] for rows in (ours, theirs))
        assert held["loss"] == pytest.approx(expected_held["loss"], rel=2e-4)
        assert held["tokens"] == expected_held["tokens"]
        found, expected = tensors(tmp_path / name), tensors(one.with_name(name))
        assert found.keys() == expected.keys()
        assert max(float((found[key] - expected[key]).abs().max()) for key in found) < 2e-4
