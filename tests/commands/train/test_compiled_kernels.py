"""train --compile --kernels triton: one graph with our operators in it, and the losses of torch's."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llmtool.commands.train.command import train
from llmtool.core.train.metrics import read_rows
from tests.commands.train.test_kernels import SETTINGS, losses
from tests.core.kernels.gate import DEVICE, kernel_test


@kernel_test
def test_compiled_kernels_train_alike(corpus: Path, tmp_path: Path) -> None:
    plain, _ = losses(corpus, tmp_path / "torch", "torch")
    given: dict[str, Any] = {**SETTINGS, "tokenizer": str(corpus / "bpe.json"), "kernels": "triton", "compiled": True}
    train([str(corpus / "train.bin")], tmp_path / "fast", device=DEVICE.type, **given)
    rows = read_rows(tmp_path / "fast" / "metrics.jsonl")
    assert [row[key] for row in rows for key in ("loss", "grad_norm")] == pytest.approx(plain, rel=1e-4)
