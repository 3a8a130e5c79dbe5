"""--kernels: what was chosen is recorded, and trains as torch's operators do."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llmtool.commands.train.command import train
from llmtool.core.run.errors import UserError
from llmtool.core.train.metrics import read_rows
from tests.core.kernels.gate import DEVICE, kernel_test

SETTINGS: dict[str, Any] = {"model": "20K", "length": 16, "batch": 32, "micro": 1, "steps": 2, "lr": 0.01}


def losses(corpus: Path, output: Path, kernels: str) -> tuple[list[float], str]:
    given = {**SETTINGS, "tokenizer": str(corpus / "bpe.json"), "kernels": kernels, "device": DEVICE.type}
    train([str(corpus / "train.bin")], output, **given)
    recorded = json.loads((output / "run.json").read_text())["config"]["kernels"]
    return [row[key] for row in read_rows(output / "metrics.jsonl") for key in ("loss", "grad_norm")], recorded


def test_the_chunked_loss_trains_alike(corpus: Path, tmp_path: Path) -> None:
    plain, said = losses(corpus, tmp_path / "torch", "torch")
    assert said == "torch; loss: torch"
    lean, said = losses(corpus, tmp_path / "auto", "auto")
    assert said == "torch; loss: lean"
    assert lean == pytest.approx(plain, rel=1e-5)


@kernel_test
def test_triton_trains_alike(corpus: Path, tmp_path: Path) -> None:
    plain, _ = losses(corpus, tmp_path / "torch", "torch")
    ours, said = losses(corpus, tmp_path / "triton", "triton")
    assert said.startswith("triton for ")
    assert said.endswith("loss: triton")
    assert ours == pytest.approx(plain, rel=1e-4)


def test_triton_is_refused_where_it_cannot_run(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UserError, match="do not run on cpu"):
        train(
            [str(corpus / "train.bin")], tmp_path / "out", tokenizer=str(corpus / "bpe.json"), kernels="triton",
            device="cpu", **SETTINGS,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
