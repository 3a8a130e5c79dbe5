"""A checkpoint that training goes on from: its element types, its rate, a loss that jumps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import llmtool
from llmtool.commands.train.command import train
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.checkpoint.written import written_types
from llmtool.core.model.new import fine_tuning_rate
from llmtool.core.run.console import Console
from llmtool.core.run.manifest import Run
from llmtool.core.train.metrics import read_rows
from tests.commands.train.runs import TINY, run, same, stop_after, weights


def test_a_checkpoint_in_bf16_is_written_in_bf16_from_weights_that_moved_in_fp32(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    llmtool.convert.copy(whole, start, dtype="bf16")
    given: dict[str, Any] = {"model": str(start), "tokenizer": None, "steps": 12, "lr": 1e-4}
    run(corpus, tmp_path / "out", **given)
    run(corpus, tmp_path / "full", **given, save_dtype="fp32")
    half, full = weights(tmp_path / "out"), weights(tmp_path / "full")
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in full.values()} == {torch.float32}
    assert all(full[name].bfloat16().equal(half[name]) for name in full)
    assert any(not full[name].equal(half[name].float()) for name in full)
    # A run that goes on takes the weights in fp32 from its state, not what bf16 leaves of them.
    stop_after(monkeypatch, 5)
    run(corpus, tmp_path / "again", **given, save_dtype="fp32")
    monkeypatch.undo()
    run(corpus, tmp_path / "again", **given, save_dtype="fp32")
    assert same(weights(tmp_path / "again"), full)


def test_types_are_kept_tensor_by_tensor(whole: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(whole)

    def mixed() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in checkpoint.tensors():
            yield name, tensor.to(torch.float32 if "norm" in name else torch.bfloat16)

    write_checkpoint(tmp_path / "mixed", mixed(), checkpoint.config, run=Run("test", {}), source=checkpoint)
    types = written_types(open_checkpoint(tmp_path / "mixed"))
    assert types.usual.code == "BF16"
    assert set(types.others) == {name for name in checkpoint.names() if "norm" in name}
    found = dict(types.typed((name, tensor) for name, tensor in checkpoint.tensors()))
    assert all((found[name].dtype == torch.float32) == ("norm" in name) for name in found)
    assert written_types(None).usual.code == "F32"


def test_a_checkpoint_goes_on_at_a_rate_for_trained_weights(corpus: Path, whole: Path, tmp_path: Path) -> None:
    begun = {}
    for name, model in (("new", "40K"), ("further", str(whole))):
        run(corpus, tmp_path / name, model=model, tokenizer=str(corpus / "bpe.json"), lr=None)
        begun[name] = json.loads((tmp_path / name / "train.json").read_text())["config"]
    assert (begun["new"]["weight_decay"], begun["new"]["warmup"]) == (0.1, 2)
    assert (begun["further"]["weight_decay"], begun["further"]["warmup"]) == (0.0, 10)
    assert begun["further"]["lr"] == pytest.approx(begun["new"]["lr"] / 14, rel=0.03)
    before = read_rows(whole / "metrics.jsonl")[-1]["loss"]
    assert max(row["loss"] for row in read_rows(tmp_path / "further" / "metrics.jsonl")) < before + 0.3
    assert [fine_tuning_rate(count) for count in (7 * 10**9, 10**9, 135 * 10**6)] == [2e-5, 2e-5, 4.5e-5]


def test_a_loss_that_jumps_is_said_once(corpus: Path, whole: Path, tmp_path: Path) -> None:
    said = Said()
    given = {**TINY, "model": str(whole), "steps": 8, "lr": 0.3, "warmup": 0}
    train([str(corpus / "train.bin")], tmp_path / "high", console=said, **given)
    lines = [line for line in said.warned if "above its mean so far" in line]
    assert len(lines) == 1
    assert "--lr 0.3 may be too high" in lines[0]
    train([str(corpus / "train.bin")], tmp_path / "usual", console=said, **{**given, "lr": None})
    assert len(said.warned) == 1


class Said(Console):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(verbosity=-1)
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        """Keep it."""
        self.warned.append(message)
