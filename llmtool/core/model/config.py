"""config.json -> Config: strict, in the 4.x and the 5.x spelling of transformers.

A family (Llama, Mistral, Qwen2, Qwen3) is a set of flags of one Config. A field that is neither understood here nor
known to leave the arithmetic alone is refused by name: a model that loads and computes something else is worse than
one that does not load. The standard library only; exported with checkpoints (core/model/export.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL_TYPE = "llmtool"
"""model_type of checkpoints that stock readers must not take for one of theirs; `llmtool.family` says whose flags."""

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}
"""Keys that a rope_type must have beside rope_theta."""

ROPE_OPTIONS = {
    "llama3": ("original_max_position_embeddings",),
    "yarn": (
        "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "truncate",
    ),
}  # fmt: skip
"""Keys that a rope_type may have."""

NEUTRAL = frozenset({
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "architectures", "attn_implementation",
    "auto_map", "bos_token_id", "dtype", "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label",
    "initializer_range", "is_decoder", "label2id", "output_attentions", "output_hidden_states", "pad_token_id",
    "pretraining_tp", "problem_type", "return_dict", "task_specific_params", "tokenizer_class", "torch_dtype",
    "torchscript", "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_cache",
})  # fmt: skip
"""Fields that say nothing about the arithmetic of a forward pass. pretraining_tp cuts products, not their sum."""

SHARED = frozenset({
    "attention_dropout", "head_dim", "hidden_act", "hidden_size", "intermediate_size", "llmtool",
    "max_position_embeddings", "model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
    "partial_rotary_factor", "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings",
    "vocab_size",
})  # fmt: skip

OWN = {
    "llama": frozenset({"attention_bias", "mlp_bias"}),
    "mistral": frozenset({"sliding_window"}),
    "qwen2": frozenset({"layer_types", "max_window_layers", "sliding_window", "use_sliding_window"}),
    "qwen3": frozenset({"attention_bias", "layer_types", "max_window_layers", "sliding_window", "use_sliding_window"}),
}
"""Fields that only some families have; transformers ignores them elsewhere, so elsewhere they are refused."""

INERT = {"mlp_bias": False, "attention_bias": False, "rope_interleaved": False, "use_sliding_window": False}
"""Values with which a field of another family changes nothing."""


class ConfigError(ValueError):
    """A config.json that is not understood; the message names the field."""


@dataclass(frozen=True)
class RopeSettings:
    """Rotary embedding: base `theta`, and how frequencies are scaled (`kind` is transformers' rope_type)."""

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    original_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True


@dataclass(frozen=True)
class Config:
    """The architecture of one decoder; field names are Hugging Face's where it has one."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope: RopeSettings = RopeSettings()
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tie_word_embeddings: bool = False
    windows: tuple[int | None, ...] = ()
    """Sliding window of each layer: a token sees itself and the window - 1 before it; None sees all."""
    methods: tuple[Mapping[str, Any], ...] = ()
    """llmtool's methods in the order of application: {"name", "version", ...}."""

    @property
    def groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.num_attention_heads // self.num_key_value_heads


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Config of a config.json; ConfigError names the field that is missing, wrong or not understood."""
    family, methods = _family(raw)
    _refuse_unknown(raw, family)
    heads = _count(raw, "num_attention_heads")
    key_value_heads = _count(raw, "num_key_value_heads", heads if family == "llama" else None)
    if heads % key_value_heads:
        raise ConfigError(f"num_attention_heads {heads} is no multiple of num_key_value_heads {key_value_heads}")
    hidden, layers = _count(raw, "hidden_size"), _count(raw, "num_hidden_layers")
    default_dim = 128 if family == "qwen3" else hidden // heads
    if raw.get("head_dim") is None and family != "qwen3" and hidden % heads:
        raise ConfigError(
            f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, and head_dim is missing"
        )
    head_dim = _count(raw, "head_dim", default_dim)
    if head_dim % 2:
        raise ConfigError(f"head_dim {head_dim} is odd: rotary embeddings turn pairs")
    _refuse_values(raw)
    bias = _flag(raw, "attention_bias")
    positions = _count(raw, "max_position_embeddings")
    return Config(
        family=family,
        vocab_size=_count(raw, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_count(raw, "intermediate_size"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=positions,
        rms_norm_eps=_number(raw, "rms_norm_eps", 1e-6),
        rope=_rope(raw, positions),
        qkv_bias=bias or family == "qwen2",
        o_bias=bias,
        mlp_bias=_flag(raw, "mlp_bias"),
        qk_norm=family == "qwen3",
        tie_word_embeddings=_flag(raw, "tie_word_embeddings"),
        windows=_windows(raw, family, layers),
        methods=methods,
    )


def architecture_keys(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a raw config that `parse_config` reads, without what libraries add when they hold it."""
    family, _ = _family(raw)
    return {key: raw[key] for key in SHARED | OWN[family] if key in raw}


def _family(raw: Mapping[str, Any]) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    kind = raw.get("model_type")
    ours = raw.get("llmtool")
    if kind != MODEL_TYPE:
        if ours is not None:
            raise ConfigError(f"an llmtool object wants model_type {MODEL_TYPE!r}, not {kind!r}")
        if kind not in FAMILIES:
            raise ConfigError(f"model_type {kind!r} is not supported: wanted one of {', '.join(FAMILIES)}")
        return str(kind), ()
    if not isinstance(ours, Mapping) or not ours.keys() <= {"family", "methods"}:
        raise ConfigError(f"model_type {MODEL_TYPE!r} wants an object llmtool with family and methods, not {ours!r}")
    if ours.get("family") not in FAMILIES:
        raise ConfigError(f"llmtool.family {ours.get('family')!r}: wanted one of {', '.join(FAMILIES)}")
    methods = ours.get("methods", [])
    if not isinstance(methods, list) or not all(isinstance(m, Mapping) and "name" in m for m in methods):
        raise ConfigError("llmtool.methods is not a list of objects with a name")
    return str(ours["family"]), tuple(methods)


def _refuse_unknown(raw: Mapping[str, Any], family: str) -> None:
    known = NEUTRAL | SHARED | OWN[family]
    wrong = [
        key
        for key, value in raw.items()
        if key not in known and value is not None and not (key in INERT and value == INERT[key])
    ]
    if wrong:
        hint = ": weights must be dequantized" if wrong[0] == "quantization_config" else ""
        raise ConfigError(f"{wrong[0]} = {raw[wrong[0]]!r} is not understood for {family}{hint}")


def _refuse_values(raw: Mapping[str, Any]) -> None:
    """Fields that are understood with one value only."""
    wanted = {"hidden_act": "silu", "attention_dropout": 0.0, "partial_rotary_factor": 1.0}
    for key, value in wanted.items():
        if raw.get(key) is not None and raw[key] != value:
            raise ConfigError(f"{key} = {raw[key]!r} is not supported: only {value!r} is")


def _windows(raw: Mapping[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    """Mistral: every layer. Qwen, if switched on: those in layer_types, else from max_window_layers on."""
    if family not in ("mistral", "qwen2", "qwen3") or raw.get("sliding_window") is None:
        window = None
    else:
        window = _count(raw, "sliding_window")
    if family.startswith("qwen") and not _flag(raw, "use_sliding_window"):
        window = None
    types = raw.get("layer_types")
    if types is not None:
        known = {"full_attention": None, "sliding_attention": window}
        if not isinstance(types, list) or len(types) != layers or not all(kind in known for kind in types):
            raise ConfigError(f"layer_types is not one of {', '.join(known)} for each of {layers} layers: {types!r}")
        if window is None and "sliding_attention" in types:
            raise ConfigError("layer_types names sliding_attention, but no sliding_window is in use")
        return tuple(known[kind] for kind in types)
    first = _count(raw, "max_window_layers", 28, least=0) if family.startswith("qwen") else 0
    return tuple(window if layer >= first else None for layer in range(layers))


def rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings in the 5.x spelling, {"rope_type", "rope_theta", ...}, whichever the config uses."""
    old, new = raw.get("rope_scaling"), raw.get("rope_parameters")
    if old and new and old != new:
        raise ConfigError("rope_scaling (4.x) and rope_parameters (5.x) contradict each other")
    facts = new or old or {}
    if not isinstance(facts, Mapping):
        raise ConfigError(f"rope_parameters {facts!r} is not an object")
    facts = {key: value for key, value in facts.items() if value is not None}
    kind = facts.pop("rope_type", facts.get("type", "default"))
    if facts.pop("type", kind) != kind:
        raise ConfigError("rope_parameters: type and rope_type contradict each other")
    if kind not in ROPE_KEYS:
        raise ConfigError(f"rope_type {kind!r} is not supported: wanted one of {', '.join(ROPE_KEYS)}")
    if facts.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError("rope_parameters.partial_rotary_factor is not supported: only 1.0 is")
    theta = _number(facts if "rope_theta" in facts else raw, "rope_theta", 10000.0)
    if raw.get("rope_theta") not in (None, theta):
        raise ConfigError("rope_theta and rope_parameters.rope_theta contradict each other")
    facts.pop("rope_theta", None)
    for key in ROPE_KEYS[kind]:
        if key not in facts:
            raise ConfigError(f"rope_type {kind!r} wants {key}")
    optional = ROPE_OPTIONS.get(kind, ())
    for key in facts:
        if key not in (*ROPE_KEYS[kind], *optional):
            raise ConfigError(f"rope_parameters.{key} is not understood for rope_type {kind!r}")
    return {"rope_type": kind, "rope_theta": theta, **facts}


def _rope(raw: Mapping[str, Any], positions: int) -> RopeSettings:
    facts = rope_parameters(raw)
    kind, theta = facts.pop("rope_type"), facts.pop("rope_theta")
    truncate = _flag(facts, "truncate", default=True)
    numbers = {
        key: _number(facts, key, None) for key in facts.keys() - {"truncate", "original_max_position_embeddings"}
    }
    original = _count(facts, "original_max_position_embeddings", positions)
    return RopeSettings(theta=theta, kind=kind, original_positions=original, truncate=truncate, **numbers)


def _count(facts: Mapping[str, Any], key: str, default: int | None = None, least: int = 1) -> int:
    value = facts.get(key)
    value = default if value is None else value
    if value is None:
        raise ConfigError(f"{key} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 40:
        raise ConfigError(f"{key} = {value!r} is not a count")
    return value


def _number(facts: Mapping[str, Any], key: str, default: float | None) -> float:
    value = facts.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise ConfigError(f"{key} = {value!r} is not a positive number")
    return float(value)


def _flag(facts: Mapping[str, Any], key: str, default: bool = False) -> bool:
    value = facts.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise ConfigError(f"{key} = {value!r} is neither true nor false")
    return value
