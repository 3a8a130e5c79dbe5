"""Two processes under torchrun (gloo) give the numbers of one; states move between numbers of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

import pytest

from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.train.metrics import read_rows
from tests.commands.train.runs import TINY

CODE = """
import json, sys
from typing import Any
import torch
from torch import nn
from llmtool.commands.train import command as training
from llmtool.core.model.decoder import Decoder, Parts
from llmtool.core.model.ffn import SwiGLU
from llmtool.core.train.objective import Term
from llmtool.commands.train import start

class Gated(SwiGLU):  # a part with a parameter that gets gradient through the carry alone.
    def __init__(self, config: Any, layer: int) -> None:
        super().__init__(config, layer)
        self.gate = nn.Linear(config.hidden_size, 1, bias=False)
    def forward(self, x, h, carry):
        if "seen" in carry.shared:
            carry.losses.append((carry.shared["seen"] * self.gate(x)).square().mean())
        carry.shared["seen"] = self.gate(x).sigmoid()
        return super().forward(x, h, carry)

class FromCarry(Term):
    def __init__(self):
        self.count = 0
    def add(self, loss, figures, carry, batch):
        figures["gates"] = torch.stack(carry.losses).detach()
        return loss + torch.stack(carry.losses).sum()
    def after_step(self, figures):
        self.count += 1
    def state(self):
        return {"count": self.count}
    def restore(self, state):
        self.count = state["count"]

start.build = lambda config, kernels: Decoder(config, Parts(make_ffn=Gated))
terms = {"carry": FromCarry()}
report = training.train(terms=terms, **json.loads(sys.argv[1]))
assert terms["carry"].count == report.get("step", terms["carry"].count)
"""


SETTINGS = {
    **TINY,
    "steps": 8,
    "save_every": 4,
    "eval_every": 4,
    "mask_documents": True,
    "optimizer": "muon",
    "keep": 5,
}
"""Muon trains the matrices and AdamW the rest: both are sharded."""


def launch(output: Path, data: Path, *, processes: int = 2, **changes: object) -> None:
    """Train in a process, or several under torchrun."""
    script = output.parent / "script.py"
    script.write_text(CODE)
    arguments = {"data": [str(data / "train.bin")], "output": str(output), "tokenizer": str(data / "bpe.json"),
                 "valid": [f"other={data / 'other.txt'}"], **SETTINGS, **changes}  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *torchrun, str(script), json.dumps(arguments)]
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path.strip(os.pathsep)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def numbers(output: Path) -> list[float]:
    """Losses, gradient norms, figures and held-out losses, in order."""
    found = []
    for row in read_rows(output / "metrics.jsonl"):
        found += [row["loss"], row["grad_norm"], *row["figures"]["gates"]]
        found += [loss for held in row.get("eval", {}).values() for loss in (held["loss"], *held["positions"])]
    return found


@pytest.fixture(scope="module")
def one(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("one") / "out"
    launch(output, corpus, processes=1)
    return output


def same(a: Path, b: Path) -> None:
    assert numbers(a) == pytest.approx(numbers(b), rel=2e-4)
    ours, theirs = (open_checkpoint(path) for path in (a, b))
    assert ours.names() == theirs.names()
    assert max(float((ours.read(name) - theirs.read(name)).abs().max()) for name in ours.names()) < 2e-4


def test_ddp(corpus: Path, one: Path, tmp_path: Path) -> None:
    launch(tmp_path / "two", corpus, parallel="ddp")
    same(tmp_path / "two", one)
    ours, theirs = (sorted((path / "tokens").iterdir()) for path in (tmp_path / "two", one))
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert len(ours) == 3
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


def test_fsdp_with_gradient_through_the_carry_then_resumed_by_one_process(
    corpus: Path, one: Path, tmp_path: Path
) -> None:
    output = tmp_path / "two"
    launch(output, corpus, parallel="fsdp", recompute=True)
    same(output, one)
    states = output / "checkpoints"
    assert {path.suffix for path in (states / "00000008").iterdir()} == {".safetensors", ".json"}
    assert len(list((states / "00000004").glob("*.safetensors"))) == 2
    (output / "run.json").unlink()
    rmtree(states / "00000008")
    launch(output, corpus, processes=1, recompute=True)
    assert len(list((states / "00000008").glob("*.safetensors"))) == 1
    same(output, one)
