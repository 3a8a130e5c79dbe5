"""NSAR is a count that can be made by hand."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.convert.upcycle import convert_finedeep
from llmtool.commands.eval.activations import activations, lines
from llmtool.core.eval.activations import measure
from llmtool.model import load_model
from tests.methods.dsmoe.models import library, save_dense, tokenizer
from tests.methods.upcycled import QUIET


def test_the_share_is_the_count(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    decoder = load_model(dense).decoder
    rows = [[1, 2, 3, 4], [5, 6, 7]]
    seen: list[torch.Tensor] = []
    mlp: Any = decoder.model.layers[1].mlp
    handle = mlp.gate_proj.register_forward_hook(lambda _, __, y: seen.append(y.flatten()))
    with torch.no_grad():
        for row in rows:
            decoder.hidden(torch.tensor([row]))
    handle.remove()
    gate = torch.cat(seen)
    size = (gate / (1 + (-gate).exp())).abs()
    found: Any = measure(decoder, rows, "m")[1]
    for tau in (0.05, 0.1, 0.2):
        assert found["nsar"][str(tau)] == pytest.approx(float((size > tau).float().mean()))
    assert found["deciles"] == pytest.approx(size.quantile(torch.linspace(0.1, 0.9, 9)).tolist(), rel=1e-4)
    facts = activations(dense, library(1), tokens=64, length=16)
    assert [layer["layer"] for layer in facts["layers"]] == ["0.mlp", "1.mlp", "2.mlp"]
    assert len(list(lines(facts))) == 3 + 4
    convert_finedeep(dense, tmp_path / "f", sublayers=2, experts=4, console=QUIET)
    assert len(activations(tmp_path / "f", library(1), tokens=64, length=16)["layers"]) == 6
