"""Figures from headers, checked by hand; no torch needed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool.commands.convert.inspect import describe, largest_token, lines
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.run.errors import UserError
from tests.core.checkpoint.files import SHAPES, write_typed, write_zeros

LAYER = 8 * 8 * 2 + 4 * 8 * 2 + 3 * 16 * 8
"""Elements of the matrices of one layer: q and o, k and v, the feed-forward."""


def facts_of(path: Path, shapes: dict[str, tuple[int, ...]] = SHAPES, context: int | None = None, **config: Any) -> Any:
    return describe(open_checkpoint(write_zeros(path, shapes, **config)), context)


def test_a_dense_model(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "m")
    assert facts["parameters"] == 2 * (LAYER + 16) + 8 + 2 * 32 * 8
    assert facts["embedding_parameters"] == 2 * 32 * 8
    assert facts["bytes"] == 4 * facts["parameters"]
    assert facts["elements"] == {"F32": facts["parameters"]}
    assert facts["flops_per_token"] == 2 * (2 * LAYER + 32 * 8)
    assert facts["attention_flops_per_token_and_position"] == 2 * (2 * 8 + 2 * 8)
    assert facts["kv_bytes_per_token"] == 2 * (4 + 4) * 4
    assert facts["at_context"] == {
        "positions": 64,  # max_position_embeddings
        "flops_per_token": facts["flops_per_token"] + 64 * 64,
        "kv_bytes": 64 * facts["kv_bytes_per_token"],
    }
    assert (facts["problems"], facts["tied"], facts["tensors"]) == ([], False, len(SHAPES))
    layer = facts["layers"][1]
    assert layer == {
        "layer": 1, "parameters": LAYER + 16, "attention_parameters": 192, "ffn_parameters": 384,
        "bytes": 4 * (LAYER + 16), "flops": 2 * LAYER, "attention_flops": 32, "kv_bytes": 32, "window": None,
    }  # fmt: skip


def test_a_tied_head_is_counted_once(tmp_path: Path) -> None:
    both = facts_of(tmp_path / "both", tie_word_embeddings=True)
    untied = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
    one = facts_of(tmp_path / "one", untied, tie_word_embeddings=True)
    assert one["tied"]
    assert {**both, "path": ""} == {**one, "path": ""}
    assert one["flops_per_token"] == facts_of(tmp_path / "untied")["flops_per_token"]
    assert one["embedding_parameters"] == 32 * 8


def test_layers_are_counted_as_they_are(tmp_path: Path) -> None:
    """A layer that takes its attention from another one has no queries and no keys."""
    shared = {
        name: s
        for name, s in SHAPES.items()
        if "layers.1.self_attn.q" not in name and "layers.1.self_attn.k" not in name
    }
    facts = facts_of(tmp_path / "m", shared)
    assert [layer["kv_bytes"] for layer in facts["layers"]] == [32, 16]
    assert [layer["attention_flops"] for layer in facts["layers"]] == [32, 16]
    text = list(lines(facts))
    assert [line.split()[0] for line in text[-2:]] == ["0", "1"]
    assert list(lines(facts_of(tmp_path / "n")))[-1].split()[0] == "0-1"


@pytest.mark.parametrize(
    "config, windows",
    [
        ({"sliding_window": 8}, [None, None]),  # not of Llama
        ({"model_type": "mistral", "sliding_window": 8}, [8, 8]),
        ({"model_type": "mistral", "sliding_window": None}, [None, None]),
        ({"model_type": "llmtool", "llmtool": {"family": "mistral"}, "sliding_window": 8}, [8, 8]),
        ({"model_type": "llmtool", "llmtool": {"family": "llama"}, "sliding_window": 8}, [None, None]),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}, [None, None]),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, [None, 8]),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}, [8, 8]),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True}, [None, None]),
        ({"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, [8, None]),
    ],
)
def test_windows_limit_the_cache(tmp_path: Path, config: dict[str, Any], windows: list[int | None]) -> None:
    facts = facts_of(tmp_path / "m", context=20, **config)
    assert [layer["window"] for layer in facts["layers"]] == windows
    assert facts["at_context"]["kv_bytes"] == sum(32 * (window or 20) for window in windows)
    assert facts["at_context"]["flops_per_token"] - facts["flops_per_token"] == sum(32 * (w or 20) for w in windows)


def test_sizes_that_are_not_said_are_the_familys(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "m", SHAPES)
    config = json.loads((path / "config.json").read_text())
    for name in ("vocab_size", "max_position_embeddings"):
        del config[name]
    (path / "config.json").write_text(json.dumps(config))
    facts = describe(open_checkpoint(path))
    assert (facts["max_position_embeddings"], facts["at_context"]["positions"]) == (2048, 2048)
    said = "config.json says none and means vocab_size 32000, model.embed_tokens.weight has 32 rows"
    assert facts["problems"] == [said]


def test_problems_are_named(tmp_path: Path) -> None:
    assert facts_of(tmp_path / "v", vocab_size=33)["problems"] == [
        "config.json says vocab_size 33, model.embed_tokens.weight has 32 rows"
    ]
    assert facts_of(tmp_path / "l", num_hidden_layers=3)["problems"] == [
        "config.json says num_hidden_layers 3, the tensors are of 2"
    ]
    untied = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
    assert "there is no lm_head.weight" in facts_of(tmp_path / "u", untied)["problems"][0]
    other = facts_of(tmp_path / "o", {"transformer.wte.weight": (32, 8)})
    assert "there is no model.embed_tokens.weight" in other["problems"][0]
    assert list(lines(other))
    path = write_zeros(tmp_path / "t", SHAPES)
    tokenizer = {"model": {"vocab": {"a": 0, "b": 31}}, "added_tokens": [{"id": 32, "content": "<s>"}]}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    problem = "tokenizer.json has ids up to 32, model.embed_tokens.weight has 32 rows"
    assert describe(open_checkpoint(path))["problems"] == [problem]
    tokenizer["added_tokens"] = []
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert describe(open_checkpoint(path))["problems"] == []


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=4
)
FIELDS = (
    "architectures", "model_type", "llmtool", "max_position_embeddings", "sliding_window", "use_sliding_window",
    "max_window_layers", "layer_types", "vocab_size", "num_hidden_layers", "tie_word_embeddings",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), ODD))
def test_any_config_is_inspected(tmp_path: Path, config: dict[str, Any]) -> None:
    assert list(lines(facts_of(tmp_path / "m", **config)))


def test_the_largest_token_of_odd_files() -> None:
    assert largest_token({}, "t") is None
    assert largest_token({"model": {"vocab": [["a", 0.0]]}}, "t") is None
    assert largest_token({"model": {"vocab": {}}}, "t") is None
    for odd in ({"model": {"vocab": {"a": "b", "c": 1}}}, {"model": {"vocab": {}}, "added_tokens": [1]}):
        with pytest.raises(UserError, match="t: its vocabulary holds something else"):
            largest_token(odd, "t")


def test_what_is_not_supported_is_said_and_not_counted(tmp_path: Path) -> None:
    """W_pack (Baichuan), wqkv (InternLM2): no figure is better than a wrong one."""
    fused = {name.replace("q_proj", "W_pack"): shape for name, shape in SHAPES.items() if "k_proj" not in name}
    facts = facts_of(tmp_path / "m", fused, model_type="baichuan")
    assert facts["kv_bytes_per_token"] is None
    assert facts["at_context"]["flops_per_token"] is None
    assert not facts["supported"]
    assert "model_type 'baichuan' is not supported" in facts["problems"][0]
    assert "KV bytes a token  not known" in list(lines(facts))


def test_fused_projections_of_a_known_family_are_counted(tmp_path: Path) -> None:
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (32, 8), "lm_head.weight": (32, 8), "model.norm.weight": (8,),
        f"{layer}self_attn.qkv_proj.weight": (16, 8), f"{layer}self_attn.o_proj.weight": (8, 8),
        f"{layer}mlp.gate_up_proj.weight": (24, 8), f"{layer}mlp.down_proj.weight": (8, 12),
    }  # fmt: skip
    facts = facts_of(tmp_path / "m", shapes, model_type="phi3", num_attention_heads=4, num_key_value_heads=2)
    each = facts["layers"][0]
    assert each["kv_bytes"] == (4 + 4) * 4
    assert each["attention_flops"] == 2 * 8 + 2 * 8


def test_of_experts_those_that_a_token_takes_are_counted(tmp_path: Path) -> None:
    expert = {f"model.layers.0.mlp.experts.{n}.{k}_proj.weight": (6, 8) for n in range(4) for k in ("gate", "up")}
    expert |= {f"model.layers.0.mlp.experts.{n}.down_proj.weight": (8, 6) for n in range(4)}
    shapes = {**SHAPES, **expert}
    all_of = facts_of(tmp_path / "a", shapes)["layers"][0]["flops"]
    some = facts_of(tmp_path / "b", shapes, num_experts_per_tok=1)["layers"][0]["flops"]
    assert all_of - some == 2 * 3 * 3 * 48


COSTS = ("flops_per_token", "attention_flops_per_token_and_position", "kv_bytes_per_token")


def quantized(name: str, shape: tuple[int, ...], layout: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """A matrix of a layer as a layout of four or eight bits holds it: name -> shape and type."""
    base = name.removesuffix(".weight")
    if len(shape) < 2:
        return {name: (shape, "F16")}
    rows, columns = shape
    if layout == "gptq":
        return {
            f"{base}.qweight": ((columns // 8, rows), "I32"), f"{base}.qzeros": ((1, rows // 4), "I32"),
            f"{base}.scales": ((1, rows), "F16"), f"{base}.g_idx": ((columns,), "I32"),
        }  # fmt: skip
    if layout == "bitsandbytes":
        return {name: ((rows * columns // 2, 1), "U8"), f"{name}.absmax": ((rows * columns // 8,), "F32")}
    if layout == "mlx":
        return {name: ((rows, columns // 8), "U32"), f"{base}.scales": ((rows, 1), "F16")}
    return {name: (shape, "F8_E4M3"), f"{base}.weight_scale": ((rows, 1), "BF16")}


@pytest.mark.parametrize("layout", ["gptq", "bitsandbytes", "mlx", "fp8"])
def test_figures_of_quantized_matrices_are_not_made_up(tmp_path: Path, layout: str) -> None:
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, shape in SHAPES.items():
        tensors |= quantized(name, shape, layout) if ".layers." in name else {name: (shape, "F16")}
    path = write_typed(tmp_path / "m", tensors, quantization_config={"quant_method": layout})
    facts = describe(open_checkpoint(path))
    assert [facts[key] for key in COSTS] == [None] * 3
    assert facts["at_context"] == {"positions": 64, "flops_per_token": None, "kv_bytes": None}
    assert facts["embedding_parameters"] == 2 * 32 * 8
    packed = layout != "fp8"
    for layer in facts["layers"]:
        assert [layer[key] for key in ("flops", "attention_flops", "kv_bytes")] == [None] * 3
        assert (layer["parameters"] is None) == (layer["ffn_parameters"] is None) == packed
    text = list(lines(facts))
    assert "FLOPs a token     not known" in text
    assert "KV bytes a token  not known" in text
    assert (f"{'parameters':17} not known, 512 of them in embeddings" in text) == packed


def test_layers_under_other_names_are_not_counted_as_none(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (32, 8), "transformer.h.0.c_attn.weight": (8, 24)}
    facts = facts_of(tmp_path / "m", shapes, model_type="gpt2")
    assert [facts[key] for key in (*COSTS, "embedding_parameters", "tied")] == [None] * 5
    assert facts["parameters"] == 32 * 8 + 8 * 24
    text = list(lines(facts))
    assert f"{'parameters':17} 448, not known how many of them in embeddings" in text
    assert "FLOPs a token     not known" in text
    assert "KV bytes a token  not known" in text


def test_attention_under_other_names_is_not_counted_in_part(tmp_path: Path) -> None:
    """Phi calls o_proj "dense"; a stack of experts without num_experts_per_tok says nothing of a token's."""
    shapes = {name.replace("o_proj", "dense"): shape for name, shape in SHAPES.items()}
    facts = facts_of(tmp_path / "m", shapes, model_type="phi")
    assert [facts[key] for key in COSTS] == [2 * (2 * LAYER + 32 * 8), None, None]
    stacked = {**SHAPES, "model.layers.0.mlp.experts.gate_up_proj": (4, 8, 6)}
    assert facts_of(tmp_path / "e", stacked, model_type="other")["flops_per_token"] is None
    taken = facts_of(tmp_path / "t", stacked, model_type="other", num_experts_per_tok=1)
    assert taken["layers"][0]["flops"] == 2 * (LAYER + 48)


def test_experts_of_a_published_mixtral_are_its_feed_forward_part(tmp_path: Path) -> None:
    experts = {
        name.replace("mlp.", "block_sparse_moe.experts.0."): shape for name, shape in SHAPES.items() if ".mlp." in name
    }
    rest = {name: shape for name, shape in SHAPES.items() if ".mlp." not in name}
    (layer, _) = facts_of(tmp_path / "m", rest | experts, model_type="mixtral", num_experts_per_tok=1)["layers"]
    assert layer["ffn_parameters"] == 384
    odd = {name.replace("mlp.", "ff."): shape for name, shape in SHAPES.items()}
    assert facts_of(tmp_path / "o", odd, model_type="odd")["layers"][0]["ffn_parameters"] is None


def test_tables_of_methods_are_no_packed_weights(tmp_path: Path) -> None:
    """MaskMoE keeps a table of integers in each layer."""
    tensors = {name: (shape, "F32") for name, shape in SHAPES.items()}
    tensors["model.layers.0.mlp.table"] = ((32, 2), "I16")
    ours = {"family": "llama", "methods": []}
    path = write_typed(tmp_path / "m", tensors, model_type="llmtool", llmtool=ours)
    facts = describe(open_checkpoint(path))
    assert facts["layers"][0]["flops"] == facts["layers"][1]["flops"] == 2 * LAYER
    assert facts["kv_bytes_per_token"] == 64
    assert facts["parameters"] == 2 * (LAYER + 16) + 8 + 2 * 32 * 8


def test_a_table_beside_the_weights_is_no_parameter(tmp_path: Path) -> None:
    """MaskMoE keeps which experts an id sees as bytes, which nothing trains."""
    masks = {f"model.layers.{layer}.mlp.mask": ((32, 1), "U8") for layer in range(2)}
    shapes = {name: (shape, "F32") for name, shape in SHAPES.items()}
    path, ours = tmp_path / "m", {"family": "llama", "methods": []}
    facts = describe(open_checkpoint(write_typed(path, shapes | masks, model_type="llmtool", llmtool=ours)))
    dense = facts_of(tmp_path / "dense")
    assert facts["parameters"] == dense["parameters"]
    assert facts["elements"] == {"F32": dense["parameters"], "U8": 64}
    assert facts["bytes"] == dense["bytes"] + 64
    for layer, other in zip(facts["layers"], dense["layers"], strict=True):
        assert layer["parameters"] == other["parameters"]
        assert layer["ffn_parameters"] == other["ffn_parameters"]
