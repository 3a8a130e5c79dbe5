"""config.json: read strictly, refused by the name of the field."""

from typing import Any

import pytest

from llmtool.core.model.config import Config, ConfigError, architecture_keys, parse_config, rope_parameters

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
