"""W_c where attention's output is normed before it is added: what the stream lacks is made up for through the norm."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model.loading import read_architecture
from llmtool.core.run.console import Console
from llmtool.methods.uniattn import convert, fitting
from llmtool.methods.uniattn.part import identity_heads
from llmtool.methods.uniattn.streaming import Model
from llmtool.model import build_parts
from tests.core.model.families import save

GROUPS = [[0, 2], [1, 3]]
"""Gemma's windows are on every other layer."""


def far(checkpoint: Path, width: int = 32) -> tuple[float, float]:
    """|stream - the dense one's|^2 / |the dense one's|^2 on rows that were not fitted: the map alone, and fitted."""
    reader = open_checkpoint(checkpoint)
    config = read_architecture(reader)
    followers = {group[1]: identity_heads(group[0], config.num_attention_heads) for group in GROUPS}
    changed = convert.changed_config(config, convert.entry(GROUPS, "linear", "uniattn", followers))
    random = torch.Generator().manual_seed(1)
    often = (1 / torch.arange(1, 95)).expand(60, -1)
    rows = torch.multinomial(often, width, replacement=True, generator=random) + 2
    old, new = (Model(each, build_parts(each)) for each in (config, changed))
    fit = fitting.Fitting(reader, old, new, followers, rows, [0] * 60, fitting.Fit(), torch.float64)
    list(fit.run(Console(verbosity=-1)))
    dense, bare, fitted = fit.norm.copy(fit.judged).h, fit.bare.h, fit.ours.copy(fit.judged).h
    size = sum(float(a.square().sum()) for a in dense)
    apart = [sum(float((a - b).square().sum()) for a, b in zip(dense, h, strict=True)) / size for h in (bare, fitted)]
    return apart[0], apart[1]


@pytest.mark.parametrize("family", ["gemma2", "glm4"])
def test_what_earlier_followers_left_is_made_up_for(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "m", family, 0.3, num_hidden_layers=4)
    bare, fitted = far(path)
    monkeypatch.setattr(fitting, "before_norm", lambda block, wanted, lacking: torch.zeros_like(lacking))
    same, own = far(path)
    assert same == bare
    assert fitted < 0.97 * own
    assert own < bare
