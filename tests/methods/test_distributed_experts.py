"""Two processes (gloo) give the numbers of one, also where most experts see no token at all in a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmtool.commands.convert.upcycle import convert_cartesian, convert_mask
from llmtool.commands.token_experts import token_experts
from llmtool.core.train.metrics import read_rows
from tests.methods.dsmoe.models import library, save_dense, tokenizer
from tests.methods.upcycled import QUIET

ROOT = Path(__file__).parents[2]


def train(model: Path, output: Path, processes: int, *options: str) -> list[float]:
    """Losses, gradient norms and loads of four steps of four rows of 16 tokens: 32 tokens a process."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if processes > 1 else []
    command = [
        sys.executable, *torchrun, "-m", "llmtool", "train", library(2)[1], "-o", str(output), "--model", str(model),
        "--length", "16", "--batch", "64", "--steps", "4", "--lr", "1e-2", "--device", "cpu", "--save-every", "0",
        "--micro", "2", "--quiet", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for row in read_rows(output / "metrics.jsonl"):
        found += [row["loss"], row["grad_norm"]]
        found += [value for name, values in row["figures"].items() if "fullest" in name for value in values]
    return found


def test_experts_that_saw_nothing(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m", std=0.05)
    tokenizer(dense)
    token_experts(library(2), tmp_path / "t", model=str(dense), experts=64, rule="one", console=QUIET)
    convert_mask(dense, tmp_path / "mask", tmp_path / "t", layers="0,2", console=QUIET)
    convert_cartesian(tmp_path / "mask", tmp_path / "both", experts=16, layers="1", noise=0.1, console=QUIET)
    one = train(tmp_path / "both", tmp_path / "one", 1)
    assert train(tmp_path / "both", tmp_path / "ddp", 2, "--parallel", "ddp") == pytest.approx(one, rel=2e-3)
    fsdp = train(tmp_path / "both", tmp_path / "fsdp", 2, "--parallel", "fsdp", "--recompute")
    assert fsdp == pytest.approx(one, rel=2e-3)
