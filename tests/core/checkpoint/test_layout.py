"""Fused matrices: cut by their bytes when read, put together when written."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.layout import put_together
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.manifest import Run

CONFIG = {"model_type": "phi3", "num_attention_heads": 4, "num_key_value_heads": 2}
LAYER = "model.layers.0."


def write(path: Path) -> dict[str, torch.Tensor]:
    state = {
        f"{LAYER}self_attn.qkv_proj.weight": torch.randn(64, 32),
        f"{LAYER}mlp.gate_up_proj.weight": torch.randn(96, 32),
        "model.norm.weight": torch.randn(32),
    }  # fmt: skip
    path.mkdir()
    save_file(state, path / "model.safetensors")
    import json

    (path / "config.json").write_text(json.dumps(CONFIG))
    return state


def test_what_is_read_is_the_rows_of_what_is_stored(tmp_path: Path) -> None:
    state = write(tmp_path / "m")
    source = open_checkpoint(tmp_path / "m")
    qkv, gate_up = state[f"{LAYER}self_attn.qkv_proj.weight"], state[f"{LAYER}mlp.gate_up_proj.weight"]
    for name, wanted in {
        "self_attn.q_proj": qkv[:32], "self_attn.k_proj": qkv[32:48], "self_attn.v_proj": qkv[48:],
        "mlp.gate_proj": gate_up[:48], "mlp.up_proj": gate_up[48:],
    }.items():  # fmt: skip
        assert source.read(f"{LAYER}{name}.weight").equal(wanted)
        assert source.shape(f"{LAYER}{name}.weight") == tuple(wanted.shape)
    assert f"{LAYER}self_attn.qkv_proj.weight" not in source
    write_checkpoint(tmp_path / "again", source.tensors(), CONFIG, run=Run("test", {}), source=source)
    again = load_file(tmp_path / "again/model.safetensors")
    assert again.keys() == state.keys()
    assert all(again[name].equal(state[name]) for name in state)


def test_a_part_that_never_came_is_no_silence() -> None:
    with pytest.raises(ValueError, match="lacks a part"):
        list(put_together([(f"{LAYER}mlp.gate_proj.weight", torch.zeros(2, 2))], CONFIG))


def test_what_does_not_divide_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "m")
    (tmp_path / "m/config.json").write_text('{"model_type": "phi3", "num_attention_heads": 5}')
    assert f"{LAYER}self_attn.qkv_proj.weight" in open_checkpoint(tmp_path / "m")
