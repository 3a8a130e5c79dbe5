"""Two processes under torchrun (gloo) give the numbers of one; states move between numbers of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmtool.core.train.metrics import read_rows
from llmtool.training import train
from tests.training.test_train import TINY, weights

CODE = """
import json, sys
from typing import Any
import torch
from torch import nn
from llmtool import model, training
from llmtool.core.model.decoder import Parts
from llmtool.core.model.ffn import SwiGLU
from llmtool.core.train.objective import Term
from llmtool.training import start

class Gated(SwiGLU):
    # A part with a parameter that gets gradient through the carry alone.
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

if json.loads(sys.argv[1]):
    start.build = lambda config: model.Decoder(config, Parts(make_ffn=Gated))
    from llmtool.core.model.decoder import Decoder
    start.build = lambda config: Decoder(config, Parts(make_ffn=Gated))
    training.command.__dict__["_parameters"] = lambda start: 40_000
terms = {"carry": FromCarry()} if json.loads(sys.argv[1]) else None
report = training.train(terms=terms, **json.loads(sys.argv[2]))
if terms:
    assert terms["carry"].count == report.get("step", terms["carry"].count)
"""


def launch(output: Path, data: Path, *, processes: int = 2, gated: bool = False, **settings: object) -> None:
    """Train in a process, or several under torchrun."""
    script = output.parent / "script.py"
    script.write_text(CODE)
    facts = {**TINY, "steps": 8, "save_every": 4, "eval_every": 4, "mask_documents": True, **settings}
    arguments = {"data": [str(data / "train.bin")], "output": str(output), "tokenizer": str(data / "bpe.json"),
                 "valid": [f"other={data / 'other.bin'}"], **facts}  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *torchrun, str(script), json.dumps(gated), json.dumps(arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.environ.get("PYTHONPATH", "") + os.pathsep + str(Path(__file__).parents[2]),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]


def numbers(output: Path) -> list[float]:
    """Losses, gradient norms, figures and held-out losses, in order."""
    found = []
    for row in read_rows(output / "metrics.jsonl"):
        found += [row["loss"], row["grad_norm"], *row.get("figures", {}).get("gates", [])]
        found += [loss for held in row.get("eval", {}).values() for loss in (held["loss"], *held["positions"])]
    return found


@pytest.mark.parametrize("parallel, optimizer", [("ddp", "adamw"), ("fsdp", "muon")])
def test_two_processes_are_one(corpus: Path, tmp_path: Path, parallel: str, optimizer: str) -> None:
    launch(tmp_path / "one", corpus, processes=1, optimizer=optimizer)
    launch(tmp_path / "two", corpus, parallel=parallel, optimizer=optimizer)
    assert numbers(tmp_path / "two") == pytest.approx(numbers(tmp_path / "one"), rel=2e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-4
    state = tmp_path / "two" / "checkpoints" / "00000008"
    files = {path.suffix for path in state.iterdir()}
    assert files == {".safetensors", ".json"}


def test_gradient_through_the_carry_survives_sharding_and_recomputation(corpus: Path, tmp_path: Path) -> None:
    launch(tmp_path / "one", corpus, processes=1, gated=True)
    launch(tmp_path / "two", corpus, parallel="fsdp", gated=True, recompute=True)
    assert numbers(tmp_path / "two") == pytest.approx(numbers(tmp_path / "one"), rel=2e-4)


def test_a_sharded_state_is_resumed_by_one_process(corpus: Path, tmp_path: Path) -> None:
    launch(tmp_path / "two", corpus, parallel="fsdp", keep=5)
    for name in ("run.json", "model.safetensors", "config.json"):
        (tmp_path / "two" / name).unlink()
    for path in sorted((tmp_path / "two" / "checkpoints" / "00000008").iterdir()):
        path.unlink()
    settings = {**TINY, "steps": 8, "save_every": 4, "eval_every": 4, "mask_documents": True}
    train([str(corpus / "train.bin")], tmp_path / "two", tokenizer=str(corpus / "bpe.json"),
          valid=[f"other={corpus / 'other.bin'}"], **settings)  # fmt: skip
    train([str(corpus / "train.bin")], tmp_path / "one", tokenizer=str(corpus / "bpe.json"),
          valid=[f"other={corpus / 'other.bin'}"], **settings)  # fmt: skip
    assert numbers(tmp_path / "two") == pytest.approx(numbers(tmp_path / "one"), rel=2e-4)
