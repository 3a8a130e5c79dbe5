"""Checkpoint directories: single, sharded, and everything that can be wrong with them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.checkpoint.directory import CheckpointReader, check_tensors, open_checkpoint
from llmtool.core.checkpoint.override import overridden
from llmtool.core.run.errors import UserError
from tests.core.checkpoint.files import CONFIG, SHAPES, write_zeros

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from safetensors.torch import save_file  # noqa: E402

INDEX = "model.safetensors.index.json"
TIED = {"lm_head.weight": "model.embed_tokens.weight"}


@pytest.fixture
def weights() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.fixture
def sharded(tmp_path: Path, weights: dict[str, Any]) -> Path:
    """Two shards with an index; names alternate between them."""
    path = tmp_path / "sharded"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    weight_map = {}
    for number in range(2):
        shard = f"model-0000{number + 1}-of-00002.safetensors"
        part = dict(list(weights.items())[number::2])
        save_file(part, path / shard, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def edit_index(path: Path, **changes: Any) -> None:
    facts = json.loads((path / INDEX).read_text())
    facts["weight_map"].update(changes)
    weight_map = {name: shard for name, shard in facts["weight_map"].items() if shard is not None}
    (path / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards_read_as_one(sharded: Path, weights: dict[str, Any]) -> None:
    checkpoint = open_checkpoint(sharded)
    assert set(checkpoint.names()) == set(weights)
    assert all(tensor.equal(weights[name]) for name, tensor in checkpoint.tensors())
    assert (checkpoint.shape("lm_head.weight"), checkpoint.dtype("lm_head.weight")) == ((32, 8), "F32")
    assert "lm_head.weight" in checkpoint
    assert checkpoint.config == CONFIG
    assert [name for name, _ in checkpoint.tensors(["lm_head.weight"])] == ["lm_head.weight"]
    with pytest.raises(UserError, match=r"holds no tensor 'lm_head.wieght' \(did you mean 'lm_head.weight'\?\)"):
        checkpoint.read("lm_head.wieght")


def test_headers_need_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zeros(tmp_path / "zeros", SHAPES)
    for module in ("torch", "numpy", "safetensors"):
        monkeypatch.setitem(sys.modules, module, None)
    checkpoint = open_checkpoint(path)
    check_tensors(checkpoint, SHAPES)
    with pytest.raises(UserError, match=r"torch is needed to read and write weights \(pip install 'llmtool\[models\]"):
        checkpoint.read("model.norm.weight")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"{name} is a pickle, which runs code"):
        open_checkpoint(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path, sharded: Path) -> None:
    with pytest.raises(UserError, match="no such directory: a checkpoint is a directory"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(UserError, match="is a file: a checkpoint is a directory"):
        open_checkpoint(sharded / "config.json")
    with pytest.raises(UserError, match=r"config.json: cannot read"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds neither model.safetensors nor model.safetensors.index.json"):
        open_checkpoint(tmp_path)
    (sharded / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds both model.safetensors and model.safetensors.index.json"):
        open_checkpoint(sharded)
    (sharded / "model.safetensors").unlink()
    (sharded / INDEX).unlink()
    with pytest.raises(UserError, match=r"model-00001-of-00002.safetensors without model.safetensors.index.json"):
        open_checkpoint(sharded)


def test_an_adapter_beside_a_whole_model_is_told(tmp_path: Path) -> None:
    """transformers would apply it, unasked: the same directory would give two models."""
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert open_checkpoint(tmp_path).names() == ["a"]  # of a merge: there is nothing to apply
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match=rf"an adapter of PEFT beside it \({name}\): which is meant\? \(merge it"):
            open_checkpoint(tmp_path)
        (tmp_path / name).unlink()


def test_what_looks_like_a_checkpoint_is_named(tmp_path: Path) -> None:
    adapter, begun = tmp_path / "adapter", tmp_path / "begun"
    for folder in (adapter, begun):
        folder.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    for base, named in (("Llama-3.2-1B", "Llama-3.2-1B"), (None, "another model"), (3, "another model")):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(UserError, match=f"is an adapter of PEFT for {named}, and no model.*merge"):
            open_checkpoint(adapter)
    (begun / "checkpoints").mkdir()
    for command, named in (("posttrain sft", "posttrain sft"), (None, "train")):
        (begun / "train.json").write_text(json.dumps({"command": command}))
        with pytest.raises(UserError, match=f"is a run of `llmtool {named}` that has not ended.*same command goes on"):
            open_checkpoint(begun)


def test_an_index_must_agree_with_its_shards(sharded: Path) -> None:
    first, second = sorted(sharded.glob("*.safetensors"))
    good = (sharded / INDEX).read_text()

    def refused(**changes: Any) -> str:
        (sharded / INDEX).write_text(good)
        edit_index(sharded, **changes)
        with pytest.raises(UserError) as caught:
            open_checkpoint(sharded)
        assert str(caught.value).startswith(f"{sharded / INDEX}: ")
        return str(caught.value)

    assert f"extra.weight is not in {first.name}" in refused(**{"extra.weight": first.name})
    assert f"model.norm.weight is not in {first.name}" in refused(**{"model.norm.weight": first.name})
    holds = f"{first.name} holds model.embed_tokens.weight, which the index does not place there"
    assert holds in refused(**{"model.embed_tokens.weight": None})
    assert "not the name of a safetensors file" in refused(x="../model.safetensors")
    assert "not the name of a safetensors file" in refused(x="pytorch_model.bin")
    assert "not the name of a safetensors file" in refused(x=3)
    (sharded / INDEX).write_text('{"weight_map": []}')
    with pytest.raises(UserError, match="weight_map is not an object"):
        open_checkpoint(sharded)
    (sharded / INDEX).write_text(good)
    second.unlink()
    with pytest.raises(UserError, match=f"shard {second.name} is missing, wanted for model"):
        open_checkpoint(sharded)


def test_not_finite_weights_are_refused(tmp_path: Path, weights: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for value in (float("nan"), float("inf"), -float("inf")):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e5m2):
            weights["lm_head.weight"] = torch.randn(32, 8)
            weights["lm_head.weight"][3, 1:3] = value
            weights["lm_head.weight"] = weights["lm_head.weight"].to(dtype)
            save_file(weights, tmp_path / "model.safetensors")
            checkpoint = open_checkpoint(tmp_path)
            wanted = r"model.safetensors: lm_head.weight: 2 of 256 numbers are NaN or infinite, the first at \[3, 1\]"
            with pytest.raises(UserError, match=wanted):
                checkpoint.read("lm_head.weight")
            checkpoint.read("lm_head.weight", check=False)
            checkpoint.read("model.norm.weight")


def checked(path: Path, shapes: dict[str, tuple[int, ...]], tied: dict[str, str] | None = None) -> CheckpointReader:
    checkpoint = open_checkpoint(path)
    check_tensors(checkpoint, shapes, tied)
    return checkpoint


def test_tensors_are_those_of_the_model(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "zeros", SHAPES)
    checked(path, SHAPES)
    with pytest.raises(UserError, match=r"model.safetensors: lm_head.weight: shape \[32, 8\], wanted \[33, 8\]"):
        checked(path, {**SHAPES, "lm_head.weight": (33, 8)})
    with pytest.raises(UserError, match=r"tensor lm_head.bias is missing, wanted \[32\]"):
        checked(path, {**SHAPES, "lm_head.bias": (32,)})
    without = {name: shape for name, shape in SHAPES.items() if name != "model.norm.weight"}
    with pytest.raises(UserError, match=r"model.norm.weight: the model that config.json describes has no such tensor"):
        checked(path, without)
    old = {**SHAPES, "model.layers.0.self_attn.rotary_emb.inv_freq": (1,)}
    checked(write_zeros(tmp_path / "old", old), SHAPES)


def test_tied_tensors(tmp_path: Path, weights: dict[str, Any]) -> None:
    untied = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
    path = write_zeros(tmp_path / "untied", untied)
    checked(path, SHAPES, TIED)
    checked(path, untied, TIED)
    with pytest.raises(UserError, match=r"tensor lm_head.weight is missing, wanted \[32, 8\]"):
        checked(path, SHAPES)
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()}, path / "model.safetensors")
    checked(path, untied, TIED)
    save_file(weights, path / "model.safetensors")
    with pytest.raises(UserError, match=r"lm_head.weight: differs from model.embed_tokens.weight, but config"):
        checked(path, untied, TIED)


def test_what_goes_along(sharded: Path) -> None:
    carried = ["LICENSE.txt", "additional_chat_templates/tool.jinja", "chat_template.jinja", "generation_config.json",
               "llmtool.json", "tokenization_llmtool.py", "tokenizer.json", "tokenizer_config.json"]  # fmt: skip
    (sharded / "additional_chat_templates").mkdir()
    for name in [*carried, "README.md", "modeling_x.py", "optimizer.bin"]:
        (sharded / name).write_text("x")
    assert [str(name) for name in open_checkpoint(sharded).carried_files] == carried


def test_the_fingerprint_sees_config_and_weights(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "zeros", SHAPES)
    before = open_checkpoint(path).fingerprint()
    size = sum(file.stat().st_size for file in path.iterdir())
    assert (before["path"], before["files"], before["bytes"]) == (str(path), 2, size)
    assert open_checkpoint(path).fingerprint() == before
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] = 1
    (path / "model.safetensors").write_bytes(content)
    weights = open_checkpoint(path).fingerprint()["sha256"]
    write_zeros(path, SHAPES, rope_theta=1e6)
    assert len({before["sha256"], weights, open_checkpoint(path).fingerprint()["sha256"]}) == 3


def test_fields_of_config_json_given_anew() -> None:
    facts = {"sliding_window": 4096, "rope_theta": 1e4}
    words = ["sliding_window=null", 'rope_scaling={"type": "linear", "factor": 2}', "hidden_act=silu"]
    assert overridden(facts, words, "config.json") == {
        "sliding_window": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2},
        "hidden_act": "silu",
    }  # fmt: skip
    assert facts["sliding_window"] == 4096
    for word, message in {"sliding_window": "wanted KEY=VALUE", "sliding_windw=null": "has no sliding_windw"}.items():
        with pytest.raises(UserError, match=message):
            overridden(facts, [word], "config.json")
