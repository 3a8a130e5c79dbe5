"""config.json: read strictly, refused by the name of the field."""

from typing import Any

import pytest

from llmtool.core.model.config import (
    Config,
    ConfigError,
    RopeSettings,
    architecture_keys,
    parse_config,
    rope_parameters,
)
from llmtool.core.model.families import FAMILIES, absent_sizes
from llmtool.core.model.fields import training_only

LLAMA = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
}  # fmt: skip
QWEN = {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2}


def test_both_spellings_mean_the_same() -> None:
    old = {**LLAMA, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "bfloat16"}
    new = {**LLAMA, "rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}, "dtype": "bfloat16"}
    assert parse_config(old) == parse_config(new)
    assert parse_config(old).rope.theta == 5e5
    assert rope_parameters(old) == new["rope_parameters"]


def test_defaults_are_those_of_the_family() -> None:
    config = parse_config(LLAMA)
    assert (config.num_key_value_heads, config.head_dim, config.windows) == (4, 8, (None,) * 4)
    assert parse_config({**QWEN, "model_type": "qwen3"}).head_dim == 128
    assert (parse_config(QWEN).qkv_bias, parse_config(QWEN).o_bias) == (True, False)
    assert parse_config({**LLAMA, "attention_bias": True}).o_bias


@pytest.mark.parametrize(
    "changes, windows",
    [
        ({"sliding_window": 7}, (None,) * 4),
        ({"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 3}, (None, None, None, 7)),
        ({"sliding_window": 7, "use_sliding_window": True}, (None,) * 4),
        (
            {
                "sliding_window": 7,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
            },
            (7, None, None, 7),
        ),
        ({"model_type": "mistral", "sliding_window": 7}, (7,) * 4),
        ({"model_type": "mistral", "sliding_window": None}, (None,) * 4),
        ({"model_type": "mistral"}, (4096,) * 4),
        ({"model_type": "gemma2", "sliding_window": 7}, (7, None, 7, None)),
        ({"model_type": "gemma3_text", "sliding_window": 7, "sliding_window_pattern": 3}, (7, 7, None, 7)),
        ({"model_type": "gemma3_text"}, (4096,) * 4),
        ({"model_type": "olmo3", "sliding_window": 7}, (7, 7, 7, None)),
        ({"model_type": "phi3"}, (None,) * 4),
    ],
)
def test_windows(changes: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    assert parse_config({**QWEN, **changes}).windows == windows


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": None}, "model_type None"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0 is not understood for llama"),
        ({"quantization_config": {"bits": 4}}, "quantization_config .* dequantized"),
        ({"sliding_window": 4096}, "sliding_window = 4096 is not understood for llama"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"vocab_size": True}, "vocab_size = True is not a count"),
        ({"hidden_size": 32.0}, "hidden_size = 32.0 is not a count"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps = '1e-5'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1"),
        ({"num_key_value_heads": 3}, "no multiple of num_key_value_heads 3"),
        ({"hidden_size": 30}, "hidden_size 30"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_type 'longrope' wants short_factor"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type 'linear' wants factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2, "alpha": 3}}, "rope_parameters.alpha"),
        ({"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2}}, "type and rope_type contradict"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": -1}}, "factor = -1"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_theta": 1e4}, "contradict"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": [1]}, "is not an object"),
        ({"rope_theta": "500000.0"}, "rope_theta = '500000.0' is a text, not a number"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "5e5"}}, "rope_theta = '5e5' is a text"),
        ({"llmtool": {"family": "llama"}}, "wants model_type 'llmtool'"),
        ({"model_type": "llmtool"}, "wants an object llmtool"),
        ({"model_type": "llmtool", "llmtool": {"family": "gpt2"}}, "llmtool.family 'gpt2'"),
        ({"model_type": "llmtool", "llmtool": {"family": "llama", "methods": ["dsmoe"]}}, "llmtool.methods"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**LLAMA, **changes})


def test_window_without_its_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        parse_config({**QWEN, "use_sliding_window": True, "sliding_window": 7, "layer_types": ["full_attention"]})
    with pytest.raises(ConfigError, match="no sliding_window is in use"):
        parse_config({**QWEN, "layer_types": ["sliding_attention"] * 4})


def test_fields_that_change_nothing_are_let_by() -> None:
    neutral = {"torch_dtype": "bfloat16", "pretraining_tp": 1, "use_cache": True, "some_future_field": None}
    assert parse_config({**LLAMA, **neutral, "use_sliding_window": False}) == parse_config(LLAMA)


@pytest.mark.parametrize(
    "field, harmless, harmful",
    [
        ("use_mrope", False, True), ("rope_interleaved", False, True), ("embedding_multiplier", 1, 12.0),
        ("clip_qkv", None, 8.0), ("qk_layernorm", False, True), ("num_experts", 0, 8), ("logits_scaling", 1.0, 10),
        ("hidden_activation", "silu", "gelu"), ("layer_types", ["full_attention"] * 4, ["sliding_attention"] * 4),
        ("attention_multiplier", None, 0.1), ("is_encoder_decoder", False, True),
    ],
)  # fmt: skip
def test_a_field_of_another_family_is_harmless_with_one_value(field: str, harmless: object, harmful: object) -> None:
    assert parse_config({**LLAMA, field: harmless}) == parse_config(LLAMA)
    with pytest.raises(ConfigError, match=f"{field} = .*is not understood for llama"):
        parse_config({**LLAMA, field: harmful})


def test_published_files_have_these_fields() -> None:
    """SmolLM2's, Qwen2.5's, Llama-1's and Phi-3's config.json."""
    found = {
        "is_llama_config": True, "transformers.js_config": {"kv_cache_dtype": {}}, "max_sequence_length": 2048,
        "do_sample": True, "temperature": 0.7, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "neftune_noise_alpha": None,
        "attention_dropout": 0.1, "rope_interleaved": False, "original_max_position_embeddings": 2048,
    }  # fmt: skip
    assert parse_config({**LLAMA, **found}) == parse_config(LLAMA)
    assert training_only({**LLAMA, **found}) == ["attention_dropout = 0.1"]


@pytest.mark.parametrize("kind", FAMILIES)
def test_absent_sizes_are_those_of_transformers(kind: str) -> None:
    configs = pytest.importorskip("transformers").AutoConfig
    theirs = configs.for_model(kind)
    assert absent_sizes(kind) == {key: getattr(theirs, key) for key in ("vocab_size", "max_position_embeddings")}
    if kind != "granitemoehybrid":  # whose absent layer_types are of Mamba
        bare = {key: value for key, value in LLAMA.items() if key not in absent_sizes(kind)}
        found = parse_config({**bare, "model_type": kind, "num_attention_heads": 4, "num_key_value_heads": 2})
        assert (found.vocab_size, found.max_position_embeddings) == tuple(absent_sizes(kind).values())
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        with pytest.raises(ConfigError, match=f"{name} is missing"):
            parse_config({key: value for key, value in LLAMA.items() if key != name})


def test_absent_fields_take_the_familys_own_values() -> None:
    def of(kind: str, **given: Any) -> Config:
        return parse_config({**LLAMA, "num_attention_heads": 32, "hidden_size": 256, "model_type": kind, **given})

    bare = {key: value for key, value in LLAMA.items() if key != "rms_norm_eps"}
    assert [of(kind).num_key_value_heads for kind in ("llama", "mistral", "qwen2", "smollm3", "gemma2")] == [
        32, 8, 32, 4, 4,
    ]  # fmt: skip
    assert of("mistral", num_key_value_heads=None).num_key_value_heads == 32
    assert parse_config({**bare, "model_type": "olmo2"}).rms_norm_eps == 1e-5
    assert parse_config(bare).rms_norm_eps == 1e-6
    assert [of(kind).rope.theta for kind in ("llama", "smollm3", "olmo3", "gemma3_text")] == [1e4, 2e6, 5e5, 1e6]
    assert of("gemma3_text").local_rope == RopeSettings(theta=1e4, original_positions=128)
    assert [of(kind).tie_word_embeddings for kind in ("llama", "smollm3", "granite", "gemma2")] == [
        False, True, False, True,
    ]  # fmt: skip
    gemma = of("gemma2")
    assert (gemma.head_dim, gemma.attention_cap, gemma.logits_cap, gemma.scale) == (256, 50.0, 30.0, 1 / 16)
    assert gemma.activation == "gelu_tanh"
    assert (of("granite").scale, of("granite", attention_multiplier=0.25).scale) == (1.0, 0.25)
    assert of("smollm3").unrotated == {3}
    assert of("phi3").rope.original_positions == 128
    glm = of("glm4")
    assert (glm.head_dim, glm.num_key_value_heads) == (128, 2)
    assert parse_config({**bare, "model_type": "glm4"}).rms_norm_eps == 1.5625e-7
    assert (glm.rope.partial, glm.qkv_bias, glm.o_bias, glm.neighbours, glm.norms) == (0.5, True, False, True, "around")
    new = of("ministral3").rope
    assert (new.kind, new.theta, new.factor, new.original_positions) == ("yarn", 1e6, 16.0, 16384)
    assert (new.llama_4_scaling_beta, new.mscale, new.mscale_all_dim) == (0.1, 1.0, 1.0)
    with pytest.raises(ConfigError, match="wants llama_4_scaling_beta"):
        of("ministral3", rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, "factor": 2.0})
    with pytest.raises(ConfigError, match="llama_4_scaling_beta is not understood"):
        of("mistral", rope_parameters={"rope_type": "yarn", "factor": 2.0, "llama_4_scaling_beta": 0.1})
    with pytest.raises(ConfigError, match="spelling of transformers 4"):
        of("ministral3", rope_scaling={"rope_type": "yarn", "factor": 2.0})
    with pytest.raises(ConfigError, match="head_dim is null"):
        of("qwen3", head_dim=None)


def test_gemma3_in_the_4x_spelling() -> None:
    old = {
        **LLAMA, "model_type": "gemma3_text", "rope_theta": 5e5, "rope_local_base_freq": 2e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }  # fmt: skip
    config = parse_config(old)
    assert (config.rope.theta, config.rope.kind, config.rope.factor) == (5e5, "linear", 8.0)
    assert config.local_rope == RopeSettings(theta=2e4, original_positions=128)
    new = {
        key: value for key, value in old.items() if not key.startswith("rope")
    } | {"rope_parameters": rope_parameters(old)}  # fmt: skip
    assert parse_config(new) == config
    with pytest.raises(ConfigError, match=r"rope_theta = 10000\.0 does not say whether"):
        parse_config({**LLAMA, "model_type": "olmo3", "rope_theta": 1e4})


@pytest.mark.parametrize("scaling", ["su", "yarn", "longrope"])
def test_phi3_calls_longrope_by_three_names(scaling: str) -> None:
    raw: dict[str, Any] = {
        **LLAMA, "model_type": "phi3", "original_max_position_embeddings": 64,
        "rope_scaling": {"type": scaling, "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 4, 8]},
    }  # fmt: skip
    rope = parse_config(raw).rope
    assert (rope.kind, rope.factor, rope.original_positions, rope.long_factors) == ("longrope", 2.0, 64, (2, 2, 4, 8))
    with pytest.raises(ConfigError, match="long_factor is not a list of 4"):
        parse_config({**raw, "rope_scaling": {**raw["rope_scaling"], "long_factor": [2, 2]}})


def test_granite_4_without_experts_is_a_granite() -> None:
    raw = {
        **LLAMA, "model_type": "granitemoehybrid", "num_local_experts": 0, "shared_intermediate_size": 96,
        "layer_types": ["attention"] * 4, "position_embedding_type": "rope", "mamba_n_heads": 8,
    }  # fmt: skip
    config = parse_config(raw)
    assert (config.intermediate_size, config.unrotated) == (96, frozenset())
    assert parse_config({**raw, "position_embedding_type": None}).unrotated == {0, 1, 2, 3}
    with pytest.raises(ConfigError, match="num_local_experts = 8"):
        parse_config({**raw, "num_local_experts": 8})
    with pytest.raises(ConfigError, match=r"layer_types .* 4 of attention, mamba"):
        parse_config({**raw, "layer_types": ["attention", "mamba"] * 2})


def test_our_own_type_carries_family_and_methods() -> None:
    methods = [{"name": "dsmoe", "version": 1, "experts": [8] * 4}]
    raw = {
        **LLAMA,
        "model_type": "llmtool",
        "llmtool": {"family": "qwen2", "methods": methods},
        "num_key_value_heads": 2,
    }
    config = parse_config(raw)
    assert isinstance(config, Config)
    assert (config.family, config.qkv_bias, list(config.methods)) == ("qwen2", True, methods)
    assert parse_config(architecture_keys({**raw, "added_by_a_library": 5})) == config
