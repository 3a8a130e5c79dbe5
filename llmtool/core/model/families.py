"""The families: what a model_type means where config.json is silent, and which flags of Config it sets. A table.

A new family is a row. `defaults` hold what transformers takes for an ABSENT field (an explicit null is not absence);
`own` are the fields beside SHARED that the family reads: elsewhere transformers ignores them, so elsewhere they are
refused unless harmless (fields.py). The standard library only; exported with checkpoints (core/model/export.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHARED = frozenset({
    "head_dim", "hidden_act", "hidden_size", "intermediate_size", "llmtool", "max_position_embeddings", "model_type",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "partial_rotary_factor", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings", "vocab_size",
})  # fmt: skip
"""Fields that every family reads."""

_BIASES = frozenset({"attention_bias", "mlp_bias"})
_LATE = frozenset({"layer_types", "max_window_layers", "sliding_window", "use_sliding_window"})
_GRANITE = frozenset({"attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier"})
_GEMMA = frozenset({
    "attention_bias", "attn_logit_softcapping", "final_logit_softcapping", "hidden_activation", "layer_types",
    "query_pre_attn_scalar", "sliding_window",
})  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A row of the table."""

    architecture: str
    """The class of transformers."""
    own: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    windows: str = "none"
    """Which layers slide where layer_types does not say: "none", "all", "late" (Qwen: from max_window_layers on, where
    switched on), "pattern" (all but each sliding_window_pattern-th), "nope" (SmolLM3: those without rotation)."""
    local_theta: float | None = None
    """Base of layers with a window, where a family turns them by tables of their own."""
    partial_rotary: bool = False
    """Whether transformers reads partial_rotary_factor here."""
    rope_kinds: frozenset[str] | None = None
    """The rope_types that transformers takes here; None: all of them."""
    rope_own: frozenset[str] = frozenset()
    """Fields of rope_parameters that every rope_type of the family must have, and no other family has."""
    rope_idle: frozenset[str] = frozenset()
    """Fields of rope_parameters that stand there and say nothing."""
    idle: frozenset[str] = frozenset()
    """Fields of parts that the family can have and that are not built here (Granite 4's mamba layers)."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Fields of Config that follow from the family alone."""


_MISTRAL = {"num_key_value_heads": 8, "sliding_window": 4096}
_GEMMA_DEFAULTS = {
    "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096, "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256,
}  # fmt: skip
_GEMMA_FLAGS = {"norm": "plus_one", "norms": "both", "embedding": "sqrt"}
_GLM_DEFAULTS = {
    "num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1.5625e-7, "attention_bias": True,
    "partial_rotary_factor": 0.5,
}  # fmt: skip
_GLM_FLAGS = {"o_bias": False, "neighbours": True}
_OLMO_FLAGS = {"norm": "precise", "norms": "after", "qk_norm": "width", "precise_rope": True}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", _BIASES),
    "mistral": Family("MistralForCausalLM", frozenset({"layer_types", "sliding_window"}), _MISTRAL, "all"),
    "ministral": Family("MinistralForCausalLM", frozenset({"layer_types", "sliding_window"}), _MISTRAL, "all"),
    "ministral3": Family(
        "Ministral3ForCausalLM", frozenset({"sliding_window"}),
        {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
         "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0,
                             "beta_slow": 1.0, "original_max_position_embeddings": 16384, "mscale": 1.0,
                             "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}},
        "all", rope_own=frozenset({"llama_4_scaling_beta"}), rope_idle=frozenset({"max_position_embeddings"}),
    ),
    "qwen2": Family("Qwen2ForCausalLM", _LATE, {"num_key_value_heads": 32}, "late", flags={"qkv_bias": True}),
    "qwen3": Family(
        "Qwen3ForCausalLM", _LATE | {"attention_bias"}, {"num_key_value_heads": 32, "head_dim": 128}, "late",
        flags={"qk_norm": "head"},
    ),
    "mixtral": Family(
        "MixtralForCausalLM", frozenset({"num_experts_per_tok", "num_local_experts", "sliding_window"}),
        {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8,
         "num_experts_per_tok": 2}, "all",
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        _LATE | {"attention_bias", "decoder_sparse_step", "mlp_only_layers", "moe_intermediate_size", "norm_topk_prob",
                 "num_experts", "num_experts_per_tok", "num_local_experts"},
        {"num_key_value_heads": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": False,
         "decoder_sparse_step": 1},
        "late", flags={"qk_norm": "head"},
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM", _BIASES | _LATE | {"no_rope_layer_interval", "no_rope_layers"},
        {"num_key_value_heads": 4, "rope_theta": 2e6, "tie_word_embeddings": True, "no_rope_layer_interval": 4}, "nope",
    ),
    "granite": Family("GraniteForCausalLM", _BIASES | _GRANITE, {"attention_multiplier": 1.0}),
    "granitemoehybrid": Family(
        "GraniteMoeHybridForCausalLM",
        _GRANITE | {"attention_bias", "layer_types", "num_local_experts", "position_embedding_type",
                    "shared_intermediate_size"},
        {"attention_multiplier": 1.0, "num_local_experts": 8, "shared_intermediate_size": 1024,
         "position_embedding_type": None, "layer_types": ["mamba"]},
        idle=frozenset({
            "embedding_dropout", "init_method", "intermediate_size", "layers_block_type", "mamba_chunk_size",
            "mamba_conv_bias", "mamba_d_conv", "mamba_d_head", "mamba_d_state", "mamba_expand", "mamba_n_groups",
            "mamba_n_heads", "mamba_proj_bias", "normalization_function", "num_experts_per_tok", "time_step_limit",
        }),
    ),
    "olmo2": Family("Olmo2ForCausalLM", frozenset({"attention_bias"}), {"rms_norm_eps": 1e-5}, flags=_OLMO_FLAGS),
    "olmo3": Family(
        "Olmo3ForCausalLM", frozenset({"attention_bias", "layer_types", "sliding_window"}),
        {"rms_norm_eps": 1e-5, "rope_theta": 5e5, "sliding_window": 4096, "sliding_window_pattern": 4}, "pattern",
        local_theta=5e5, flags=_OLMO_FLAGS,
    ),
    "phi3": Family(
        "Phi3ForCausalLM", frozenset({"original_max_position_embeddings", "sliding_window"}),
        {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096}, "all",
        partial_rotary=True, rope_kinds=frozenset({"default", "longrope"}),
    ),
    "glm": Family(
        "GlmForCausalLM", frozenset({"attention_bias"}), _GLM_DEFAULTS, partial_rotary=True, flags=_GLM_FLAGS,
    ),
    "glm4": Family(
        "Glm4ForCausalLM", frozenset({"attention_bias"}), _GLM_DEFAULTS, partial_rotary=True,
        flags={**_GLM_FLAGS, "norms": "around"},
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM", _GEMMA,
        {**_GEMMA_DEFAULTS, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
         "sliding_window_pattern": 2}, "pattern", flags=_GEMMA_FLAGS,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM", _GEMMA | {"rope_local_base_freq", "sliding_window_pattern"},
        {**_GEMMA_DEFAULTS, "rope_theta": 1e6, "sliding_window_pattern": 6}, "pattern", local_theta=1e4,
        flags={**_GEMMA_FLAGS, "qk_norm": "head"},
    ),
}  # fmt: skip

SIZES: Mapping[str, tuple[int, int]] = {
    "llama": (32000, 2048), "mistral": (32000, 131072), "ministral": (32000, 131072), "ministral3": (131072, 262144),
    "qwen2": (151936, 32768), "qwen3": (151936, 32768), "mixtral": (32000, 131072), "qwen3_moe": (151936, 32768),
    "smollm3": (128256, 32768), "granite": (32000, 2048), "granitemoehybrid": (32000, 2048), "olmo2": (50304, 2048),
    "olmo3": (50304, 2048), "phi3": (32064, 4096), "glm": (151552, 131072), "glm4": (151552, 131072),
    "gemma2": (256000, 8192), "gemma3_text": (262208, 131072),
}  # fmt: skip
"""vocab_size and max_position_embeddings where config.json does not have them, as in transformers 5.23."""


def absent_sizes(name: str) -> dict[str, int]:
    """What a config.json of the family means that does not say these."""
    return dict(zip(("vocab_size", "max_position_embeddings"), SIZES[name], strict=True))
