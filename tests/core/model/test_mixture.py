"""Mixtral and Qwen3-MoE, read and written: transformers is the oracle, on random models and on upcycled ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from llmtool.commands.convert.copy import copy_checkpoint
from llmtool.commands.convert.upcycle import convert_topk
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.safetensors_file import SafetensorsFile
from llmtool.core.model import experts
from llmtool.core.model.config import ConfigError, parse_config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.model import load_model
from tests.core.model import families
from tests.core.model.families import draw_ids, save

QUIET = Console(verbosity=-1)
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2, "head_dim": 8},
    "mixtral-window": {"model_type": "mixtral", "num_local_experts": 3, "num_experts_per_tok": 3, "sliding_window": 5},
    "qwen3_moe": {
        "model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24,
        "norm_topk_prob": True, "head_dim": 16,
    },
    "qwen3_moe-dense-layers": {
        "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 24,
        "norm_topk_prob": False, "mlp_only_layers": [1], "tie_word_embeddings": True,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", {**families.FAMILIES, **MIXTURES})


def oracle(directory: Path) -> Any:
    """In float64, which transformers' grouped product does not take: its loop over experts does."""
    kind = transformers.AutoModelForCausalLM
    return kind.from_pretrained(directory, dtype=torch.float64, experts_implementation="eager").eval()


def apart(ours: torch.Tensor, theirs: Any) -> float:
    with torch.no_grad():
        return float((ours - theirs(draw_ids()).logits).abs().max() / theirs(draw_ids()).logits.abs().max())


@pytest.mark.parametrize("name", MIXTURES)
def test_logits_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    source = save(tmp_path / "m", name, 0.3)
    # transformers takes the softmax in float32 whatever the model is in.
    assert apart(load_model(source)(draw_ids()), oracle(source)) < 1e-6
    copy_checkpoint(source, tmp_path / "copy", dtype=None, max_shard_size=20_000, console=QUIET)
    assert apart(load_model(source)(draw_ids()), oracle(tmp_path / "copy")) < 1e-6
    assert load_model(tmp_path / "copy")(draw_ids()).equal(load_model(source)(draw_ids()))


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "qwen3_moe-dense-layers"])
def test_fused_experts_are_read_and_written_one_by_one(tmp_path: Path, name: str) -> None:
    """As transformers 5 holds experts in memory, and writes them with save_original_format=False."""
    source = save(tmp_path / "m", name, 0.3)
    oracle(source).save_pretrained(tmp_path / "fused", save_original_format=False)
    held = SafetensorsFile(tmp_path / "fused" / "model.safetensors").entries
    assert "model.layers.0.mlp.experts.gate_up_proj" in held
    assert "model.layers.0.mlp.gate.weight" in held
    one, other = open_checkpoint(source), open_checkpoint(tmp_path / "fused")
    assert set(one.names()) == set(other.names())
    for tensor in one.names():
        assert one.read(tensor).equal(other.read(tensor)), tensor
        if one.shape(tensor)[0] > 1:
            assert one.read(tensor, rows=range(1, 2)).equal(other.read(tensor, rows=range(1, 2)))
    copy_checkpoint(tmp_path / "fused", tmp_path / "copy", dtype=None, console=QUIET)
    written = SafetensorsFile(tmp_path / "copy" / "model.safetensors").entries
    assert written.keys() == SafetensorsFile(source / "model.safetensors").entries.keys()
    assert load_model(tmp_path / "copy")(draw_ids()).equal(load_model(source)(draw_ids()))


def all_normalised(patch: pytest.MonkeyPatch, raw: dict[str, Any]) -> None:
    raw["norm_topk_prob"] = not raw["norm_topk_prob"]


def one_expert_more(patch: pytest.MonkeyPatch, raw: dict[str, Any]) -> None:
    raw["num_experts_per_tok"] += 1


def the_worst_experts(patch: pytest.MonkeyPatch, raw: dict[str, Any]) -> None:
    patch.setattr(experts, "best", lambda scores, k, skip=0: tuple(x[:, -k:] for x in scores.sort(-1, descending=True)))


@pytest.mark.parametrize("mutation", [all_normalised, one_expert_more, the_worst_experts])
def test_planted_mistakes_are_found(
    tmp_path: Path, mutation: Callable[[pytest.MonkeyPatch, dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / "m", "qwen3_moe", 0.3)
    theirs = oracle(source)
    raw = json.loads((source / "config.json").read_text())
    mutation(monkeypatch, raw)
    (source / "config.json").write_text(json.dumps(raw))
    assert apart(load_model(source)(draw_ids()), theirs) > 1e-3


@pytest.mark.parametrize(
    ("family", "form", "layers"),
    [("llama3.2", "mixtral", None), ("mistral", "mixtral", None), ("qwen3", "qwen3_moe", "1-2")],
)
def test_upcycled_models_load_in_stock_transformers(tmp_path: Path, family: str, form: str, layers: str | None) -> None:
    dense = save(tmp_path / "m", family, 0.3)
    plan = convert_topk(dense, tmp_path / "t", experts=4, layers=layers, console=QUIET)
    assert (plan["method"], plan["verified"]["layers"]) == (form, 2 if layers else 3)
    wanted = load_model(dense)(draw_ids())
    theirs = oracle(tmp_path / "t")
    assert theirs.config.model_type == form
    assert apart(wanted, theirs) < 1e-6
    assert float((load_model(tmp_path / "t")(draw_ids()) - wanted).abs().max()) < 1e-6 * float(wanted.abs().max())
    names = open_checkpoint(tmp_path / "t").names()
    assert "model.layers.1.mlp.experts.gate" in names
    inner, size = 80, 48
    grown = (4 - 1) * 3 * inner * size + 4 * size
    assert plan["after"]["parameters"] - plan["before"]["parameters"] == grown * len(plan["layers"])
    with pytest.raises(UserError, match="is no dense feed-forward layer"):
        convert_topk(tmp_path / "t", tmp_path / "x", console=QUIET)


def test_fields_given_anew_and_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        source = save(tmp_path / "m", "mistral", 0.3)
        convert_topk(source, tmp_path / "t", experts=2, override=["sliding_window=null"], threads=1, console=QUIET)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert open_checkpoint(tmp_path / "t").config["sliding_window"] is None
    manifest = json.loads((tmp_path / "t" / "run.json").read_text())
    assert manifest["config"]["override"] == ["sliding_window=null"]
    assert "threads" not in manifest["config"]


def test_what_a_form_cannot_hold_is_refused(tmp_path: Path) -> None:
    for family, settings, message in (
        ("qwen2", {}, "cannot hold a qwen2 with biases, as this one's attention has"),
        ("llama-bias", {}, "cannot hold a llama with biases, as this one's attention and feed-forward part has"),
        ("granite", {}, "cannot hold a granite: its blocks are built otherwise"),
        ("llama3", {"form": "qwen3_moe"}, "cannot hold a llama: it wants norms of q and k"),
        ("llama3", {"layers": "0"}, "leave --layers out"), ("llama3", {"top_k": 9}, "top-k 9 of 8"),
        ("qwen3", {"form": "mixtral"}, "cannot hold a qwen3: it has no norms of q and k"),
        ("qwen3_moe-dense-layers", {"layers": "1"}, "a qwen3_moe has experts already"),
    ):  # fmt: skip
        dense = save(tmp_path / family, family) if not (tmp_path / family).exists() else tmp_path / family
        with pytest.raises(UserError, match=message):
            convert_topk(dense, tmp_path / "x", console=QUIET, **settings)
    raw = json.loads((save(tmp_path / "moe", "qwen3_moe") / "config.json").read_text())
    wrong: list[dict[str, Any]] = [
        {"num_experts": 5, "num_local_experts": 6}, {"num_experts_per_tok": 7}, {"mlp_only_layers": ["0"]}
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ConfigError):
            parse_config({**raw, **change})
