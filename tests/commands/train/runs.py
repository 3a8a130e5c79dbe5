"""A short run, its weights, and its end before time."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from llmtool import load_model
from llmtool.commands.train.command import train

TINY: dict[str, Any] = {
    "model": "40K", "length": 32, "batch": 256, "micro": 4, "steps": 24, "lr": 0.01, "save_every": 6, "eval_every": 8,
    "eval_tokens": 512,
}  # fmt: skip


def run(corpus: Path, output: Path, **changes: Any) -> dict[str, Any]:
    settings = {**TINY, "tokenizer": str(corpus / "bpe.json"), **changes}
    return train([str(corpus / "train.bin")], output, **settings)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(output).decoder.state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """SIGTERM, sent to ourselves after so many steps."""
    from llmtool.core.train.metrics import Metrics

    write = Metrics.write

    def write_and_stop(self: Metrics, row: dict[str, Any]) -> None:
        write(self, row)
        if row["step"] == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Metrics, "write", write_and_stop)
