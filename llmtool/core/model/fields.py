"""One field of a config.json: a count, a number, a flag; and which fields cannot change what a model computes.

transformers ignores every field that it does not know, whatever it says; a reader that also did would load another
architecture under a known name and compute something else. Hence three lists, and a refusal by name for the rest:
fields of any value, fields that count in training only, and fields that are harmless with the values named here.
The standard library only; exported with checkpoints (core/model/export.py).
"""

from collections.abc import Mapping
from typing import Any

NEUTRAL = frozenset({
    "_attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled", "_name_or_path",
    "_sliding_window_pattern", "architectures", "attn_implementation", "auto_map", "begin_suppress_tokens",
    "bos_token_id", "cache_implementation", "chunk_size_feed_forward", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "flash_attn", "forced_bos_token_id", "forced_eos_token_id",
    "full_attn_mod", "gradient_checkpointing", "id2label", "initializer_factor", "initializer_range",
    "interpolate_factor", "is_decoder", "is_llama_config", "is_qwen2_config", "label2id", "length_penalty",
    "max_length", "max_new_tokens", "max_sequence_length", "min_length", "model_max_length", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states",
    "output_past", "output_scores", "pad_token", "pad_token_id", "prefix", "pretraining_tp", "problem_type",
    "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "sep_token_id", "seq_length", "summary_type", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "typical_p", "unk_token_id", "unsloth_fixed", "unsloth_version",
    "use_bfloat16", "use_cache", "use_flash_attn", "use_labels", "use_reentrant_checkpointing", "bad_words_ids",
})  # fmt: skip
"""Fields that say nothing about the arithmetic of a forward pass. pretraining_tp cuts products, not their sum."""

TRAINING = frozenset({
    "attention_dropout", "attention_probs_dropout_prob", "classifier_dropout", "embd_pdrop", "hidden_dropout",
    "hidden_dropout_prob", "neftune_noise_alpha", "output_router_logits", "resid_pdrop", "router_aux_loss_coef",
    "router_jitter_noise",
})  # fmt: skip
"""Fields that count in training only: whatever they say, a forward pass is the same."""

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,), "attention_bias": (False,), "attention_multiplier": (),
    "attention_out_bias": (False,), "attn_logit_softcapping": (), "bias": (False,), "clip_qkv": (),
    "cross_attention_hidden_size": (), "embedding_multiplier": (1.0,), "final_logit_softcapping": (),
    "is_encoder_decoder": (False,), "lm_head_bias": (False,), "logit_scale": (1.0,), "logits_scaling": (1.0,),
    "mlp_bias": (False,), "mup_enabled": (False,), "num_experts": (0,), "num_local_experts": (0,),
    "num_nextn_predict_layers": (0,), "qk_layer_norms": (False,), "qk_layernorm": (False,), "qk_norm": (False,),
    "qkv_bias": (False,), "residual_multiplier": (1.0,), "rope_interleaved": (False,),
    "use_bias": (False,), "use_bidirectional_attention": (False,), "use_mrope": (False,),
    "use_parallel_residual": (False,), "use_qk_norm": (False,), "use_resampler": (False,),
    "use_sliding_window": (False,),
}  # fmt: skip
"""Fields of other families, and the values with which they change nothing; null never does."""


class ConfigError(ValueError):
    """A config.json that is not understood; the message names the field."""


def refuse_unknown(raw: Mapping[str, Any], known: frozenset[str], family: str) -> None:
    """Refuse the first field that is neither `known` nor harmless."""
    for key, value in raw.items():
        if key in known or key in NEUTRAL or key in TRAINING or value is None or _idle(key, raw):
            continue
        if key == "quantization_config":
            raise ConfigError(f"{key} = {value!r} is not understood for {family}: weights must be dequantized")
        harmless = [repr(x) for x in HARMLESS.get(key, ())]
        only = f"; only {' or '.join([*harmless, 'null'])} changes nothing" if key in HARMLESS else ""
        raise ConfigError(
            f"{key} = {value!r} is not understood for {family}: the model may be another than {family}{only}"
        )


def _idle(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether a field says nothing, as it stands among the others."""
    value = raw[key]
    if key == "layer_types":
        return isinstance(value, list) and all(kind in ("full_attention", "attention") for kind in value)
    if key == "sliding_window":  # of Qwen's files, and of Llamas made from them
        return raw.get("use_sliding_window") is False
    if key == "sliding_window_size":
        return bool(value == raw.get("sliding_window"))
    if key in ("max_window_layers", "sliding_window_pattern"):
        return raw.get("sliding_window") is None or raw.get("use_sliding_window") is False
    if key == "original_max_position_embeddings":
        return not (raw.get("rope_scaling") or raw.get("rope_parameters"))
    if key == "hidden_activation":
        return bool(value == raw.get("hidden_act", "silu"))
    return type(value) in (bool, int, float) and any(value == x for x in HARMLESS.get(key, ()))


def training_only(raw: Mapping[str, Any]) -> list[str]:
    """Dropouts and noise that the model was trained with, "attention_dropout = 0.1": llmtool trains without."""
    return [f"{key} = {raw[key]!r}" for key in sorted(TRAINING & raw.keys()) if _noise(key, raw[key])]


def _noise(key: str, value: Any) -> bool:
    return ("drop" in key or "noise" in key) and isinstance(value, int | float) and value > 0


def count(facts: Mapping[str, Any], key: str, default: int | None = None, least: int = 1) -> int:
    """A whole number of at least `least`; null and absence mean the default."""
    value = facts.get(key)
    value = default if value is None else value
    if value is None:
        raise ConfigError(f"{key} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 40:
        raise ConfigError(f"{key} = {value!r} is not a count")
    return value


def number(facts: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A positive number; null and absence mean the default."""
    value = facts.get(key)
    value = default if value is None else value
    if value is None:
        raise ConfigError(f"{key} is missing")
    if isinstance(value, str):
        raise ConfigError(f"{key} = {value!r} is a text, not a number: write it without the quotation marks")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise ConfigError(f"{key} = {value!r} is not a positive number")
    return float(value)


def optional(facts: Mapping[str, Any], key: str) -> float | None:
    """A positive number, or None for null."""
    return None if facts.get(key) is None else number(facts, key)


def flag(facts: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """True or false; null and absence mean the default."""
    value = facts.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise ConfigError(f"{key} = {value!r} is neither true nor false")
    return value
