"""Configs to train from, in recipes/presets: each is a model, and those of a published size have its parameters."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.model.config import parse_config
from llmtool.core.model.cost import cost_of
from llmtool.model import build

PRESETS = sorted((Path(__file__).parents[2] / "recipes/presets").glob("*.json"))
PUBLISHED = {"cartesian_moe_base": (842e6, 247e6), "cartesian_moe_large": (2.88e9, 770e6)}
"""Parameters in all and in a token, from the tables of the paper's project page, rounded as printed there."""


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_model_of_its_size(path: Path) -> None:
    with torch.device("meta"):
        decoder = build(parse_config(json.loads(path.read_text())))
    cost = cost_of(decoder)
    assert cost.parameters > cost.active or "finedeep" in path.stem
    if path.stem in PUBLISHED:
        total, active = PUBLISHED[path.stem]
        assert cost.parameters == pytest.approx(total, rel=0.005)
        assert cost.active == pytest.approx(active, rel=0.005)
