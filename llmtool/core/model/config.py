"""config.json -> Config: strict, in the 4.x and the 5.x spelling of transformers.

A family is a row of families.FAMILIES and a set of flags of one Config. A field that is neither understood here nor
known to leave the arithmetic alone (fields.py) is refused by name: a model that loads and computes something else is
worse than one that does not load. The standard library only; exported with checkpoints (core/model/export.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmtool.core.model.families import FAMILIES, SHARED, Family, absent_sizes
from llmtool.core.model.fields import ConfigError, count, flag, number, optional, refuse_unknown
from llmtool.core.model.rope_settings import FULL, SLIDING, RopeSettings, head_bases, read_parameters, rope_settings

__all__ = [
    "MODEL_TYPE", "Config", "ConfigError", "RopeSettings", "architecture_keys", "family_of", "parse_config",
    "rope_parameters",
]  # fmt: skip

MODEL_TYPE = "llmtool"
MOST_LAYERS, WIDEST = 10_000, 1 << 28
"""model_type of checkpoints that stock readers must not take for one of theirs; `llmtool.family` says whose flags."""

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
"""hidden_act -> Config.activation."""


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
    rope: RopeSettings = field(default_factory=RopeSettings)
    local_rope: RopeSettings | None = None
    """Rotation of the layers with a window, where it is another (Gemma-3, OLMo-3)."""
    unrotated: frozenset[int] = frozenset()
    """Layers whose queries and keys are not turned (NoPE: SmolLM3)."""
    precise_rope: bool = False
    """Cosines, sines and the rotation stay in float32 (OLMo)."""
    neighbours: bool = False
    """Rotation turns the pairs (2i, 2i + 1) of a head, not (i, i + half of them) (GLM)."""
    activation: str = "silu"
    """Of the feed-forward gate: "silu" or "gelu_tanh"."""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str = ""
    """Norms of q and k before rotation: "" none, "head" each head's, "width" the whole projection's (OLMo)."""
    norm: str = "rounded"
    """A key of norm.FORMS: where the weight is applied."""
    norms: str = "before"
    """Norms of a block, a key of decoder.NORMS: "before" each part, "after" each part (OLMo), "both" (Gemma), or both
    by other names, "around" (GLM-4)."""
    embedding: str = "plain"
    """What embeddings are multiplied by: "plain" embedding_scale, "sqrt" sqrt(hidden_size), rounded to the weights'
    type first (Gemma)."""
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    """Factor of the scores; None is head_dim^-0.5."""
    residual_scale: float = 1.0
    """Factor of what a part adds to the residual stream."""
    logits_divisor: float = 1.0
    attention_cap: float | None = None
    """c of c tanh(score / c)."""
    logits_cap: float | None = None
    tie_word_embeddings: bool = False
    windows: tuple[int | None, ...] = ()
    """Sliding window of each layer: a token sees itself and the window - 1 before it; None sees all."""
    experts: int = 0
    """Experts of the routed layers (Mixtral, Qwen3-MoE); 0: all layers are dense."""
    experts_per_token: int = 0
    expert_size: int = 0
    """Width of an expert."""
    normalise_experts: bool = True
    """Weights of a token's experts sum to 1."""
    dense_layers: frozenset[int] = frozenset()
    """Layers without experts, in a model that has some."""
    methods: tuple[Mapping[str, Any], ...] = ()
    """llmtool's methods in the order of application: {"name", "version", ...}."""

    @property
    def groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    def rope_of(self, layer: int) -> RopeSettings | None:
        """Rotation of a layer; None where nothing turns."""
        if layer in self.unrotated:
            return None
        local = self.local_rope is not None and self.windows[layer] is not None
        rope = self.local_rope if local and self.local_rope is not None else self.rope
        bases = head_bases(self.methods, self.num_hidden_layers, self.num_key_value_heads)
        return replace(rope, bases=bases[layer]) if bases else rope


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Config of a config.json; ConfigError names the field that is missing, wrong or not understood."""
    name, methods = family_of(raw)
    family = FAMILIES[name]
    refuse_unknown(raw, SHARED | family.own | family.idle, name)
    given = {key: value for key, value in raw.items() if key in SHARED | family.own}
    facts = {**absent_sizes(name), **family.defaults, **given}
    heads, hidden, layers = (count(facts, key) for key in ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    if layers > MOST_LAYERS:  # lists of each are made of it, before any tensor is compared
        raise ConfigError(f"num_hidden_layers = {layers}: no model has more than {MOST_LAYERS}")
    key_value_heads = count(facts, "num_key_value_heads", heads)
    if heads % key_value_heads:
        raise ConfigError(f"num_attention_heads {heads} is no multiple of num_key_value_heads {key_value_heads}")
    head_dim = _head_dim(facts, family, hidden, heads)
    widths = {
        "hidden_size": hidden, "num_attention_heads * head_dim": heads * head_dim,
        "vocab_size": count(facts, "vocab_size"), "intermediate_size": _inner(facts, name),
    }  # fmt: skip
    for name_of, size in widths.items():
        if size > WIDEST:  # their products are sizes of tensors, before any is compared
            raise ConfigError(f"{name_of} = {size}: no model is wider than {WIDEST}")
    positions = count(facts, "max_position_embeddings")
    bias = flag(facts, "attention_bias")
    ropes = rope_parameters(raw)
    main, local = (ropes[FULL], ropes[SLIDING]) if SLIDING in ropes else (ropes, None)
    unrotated = _unrotated(facts, layers)
    head_bases(methods, layers, key_value_heads)  # for its errors
    common = {
        "qkv_bias": bias,
        "o_bias": bias,
        "embedding_scale": number(facts, "embedding_multiplier", 1.0),
        "attention_scale": _attention_scale(facts),
    }
    return Config(
        family=name,
        vocab_size=count(facts, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_inner(facts, name),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=positions,
        rms_norm_eps=number(facts, "rms_norm_eps", 1e-6),
        rope=rope_settings(main, positions, head_dim),
        local_rope=None if local is None else rope_settings(local, positions, head_dim),
        unrotated=unrotated,
        activation=_activation(facts),
        mlp_bias=flag(facts, "mlp_bias"),
        residual_scale=number(facts, "residual_multiplier", 1.0),
        logits_divisor=number(facts, "logits_scaling", 1.0),
        attention_cap=optional(facts, "attn_logit_softcapping"),
        logits_cap=optional(facts, "final_logit_softcapping"),
        tie_word_embeddings=flag(facts, "tie_word_embeddings"),
        windows=_windows(facts, family, layers, unrotated),
        methods=methods,
        **_experts(facts, family, layers),
        **{**common, **family.flags},
    )


def _experts(facts: Mapping[str, Any], family: Family, layers: int) -> dict[str, Any]:
    """Mixtral: every layer, experts as wide as the config says. Qwen3-MoE: by step and list, experts of their own."""
    if "num_experts_per_tok" not in family.own:
        return {}
    spelled = [key for key in ("num_experts", "num_local_experts") if facts.get(key) is not None]
    if len({facts[key] for key in spelled}) > 1:
        raise ConfigError("num_experts and num_local_experts contradict each other")
    experts = count(facts, spelled[0] if spelled else "num_experts", 128)
    active = count(facts, "num_experts_per_tok")
    if active > experts:
        raise ConfigError(f"num_experts_per_tok {active} of {experts} experts")
    step, dense = count(facts, "decoder_sparse_step", 1), facts.get("mlp_only_layers") or []
    if not isinstance(dense, list) or not all(type(layer) is int for layer in dense):
        raise ConfigError(f"mlp_only_layers {dense!r} is not a list of numbers of layers")
    return {
        "experts": experts,
        "experts_per_token": active,
        "expert_size": count(facts, "moe_intermediate_size", count(facts, "intermediate_size")),
        "normalise_experts": flag(facts, "norm_topk_prob") if "norm_topk_prob" in facts else True,
        "dense_layers": frozenset(layer for layer in range(layers) if layer in dense or (layer + 1) % step),
    }


def rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings in the 5.x spelling, whichever the config uses; see rope_settings.read_parameters."""
    name, _ = family_of(raw)
    return read_parameters(raw, FAMILIES[name])


def architecture_keys(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a raw config that `parse_config` reads, without what libraries add when they hold it."""
    name, _ = family_of(raw)
    return {key: raw[key] for key in SHARED | FAMILIES[name].own if key in raw}


def family_of(raw: Mapping[str, Any]) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """Name of the family, and llmtool's methods; ConfigError where the model_type is not supported."""
    kind = raw.get("model_type")
    ours = raw.get("llmtool")
    if kind != MODEL_TYPE:
        if ours is not None:
            raise ConfigError(f"an llmtool object wants model_type {MODEL_TYPE!r}, not {kind!r}")
        if not isinstance(kind, str) or kind not in FAMILIES:
            raise ConfigError(f"model_type {kind!r} is not supported: wanted one of {', '.join(FAMILIES)}")
        return kind, ()
    if not isinstance(ours, Mapping) or not ours.keys() <= {"family", "methods"}:
        raise ConfigError(f"model_type {MODEL_TYPE!r} wants an object llmtool with family and methods, not {ours!r}")
    if not isinstance(ours.get("family"), str) or ours["family"] not in FAMILIES:
        raise ConfigError(f"llmtool.family {ours.get('family')!r}: wanted one of {', '.join(FAMILIES)}")
    methods = ours.get("methods", [])
    if not isinstance(methods, list) or not all(isinstance(m, Mapping) and "name" in m for m in methods):
        raise ConfigError("llmtool.methods is not a list of objects with a name")
    return str(ours["family"]), tuple(methods)


def _head_dim(facts: Mapping[str, Any], family: Family, hidden: int, heads: int) -> int:
    if facts.get("head_dim") is None:
        if "head_dim" in family.defaults:  # transformers refuses it too
            raise ConfigError(f"head_dim is null: leave it out for {family.defaults['head_dim']}, or say what it is")
        if hidden % heads:
            raise ConfigError(
                f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, and head_dim is missing"
            )
    size = count(facts, "head_dim", hidden // heads)
    if size % 2:
        raise ConfigError(f"head_dim {size} is odd: rotary embeddings turn pairs")
    return size


def _inner(facts: Mapping[str, Any], name: str) -> int:
    """Width of the feed-forward part. Granite 4 calls a model without experts one with a shared expert only."""
    if name != "granitemoehybrid":
        return count(facts, "intermediate_size")
    if count(facts, "num_local_experts", least=0):
        raise ConfigError(f"num_local_experts = {facts['num_local_experts']!r} is not supported for {name}: only 0 is")
    return count(facts, "shared_intermediate_size")


def _activation(facts: Mapping[str, Any]) -> str:
    key = "hidden_activation" if "hidden_activation" in facts else "hidden_act"
    value = facts.get(key) or ("gelu_pytorch_tanh" if key == "hidden_activation" else "silu")
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ConfigError(f"{key} = {value!r} is not supported: wanted one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[value]


def _attention_scale(facts: Mapping[str, Any]) -> float | None:
    """Granite says the factor, Gemma the number whose root divides."""
    if "query_pre_attn_scalar" in facts:
        return float(number(facts, "query_pre_attn_scalar") ** -0.5)
    return optional(facts, "attention_multiplier")


def _unrotated(facts: Mapping[str, Any], layers: int) -> frozenset[int]:
    """Layers without rotation: SmolLM3's list or interval; all of a Granite 4 that does not say "rope"."""
    if "position_embedding_type" in facts:
        kind = facts["position_embedding_type"]
        if kind not in (None, "nope", "rope"):
            raise ConfigError(f"position_embedding_type = {kind!r} is not supported: only rope and null are")
        return frozenset() if kind == "rope" else frozenset(range(layers))
    turned = facts.get("no_rope_layers")
    if turned is None:
        interval = count(facts, "no_rope_layer_interval", layers + 1)
        return frozenset(layer for layer in range(layers) if (layer + 1) % interval == 0)
    if not isinstance(turned, list) or len(turned) < layers or not all(x in (0, 1) for x in turned):
        raise ConfigError(f"no_rope_layers is not a list of 0 and 1 for each of {layers} layers: {turned!r}")
    return frozenset(layer for layer in range(layers) if not turned[layer])


def _windows(
    facts: Mapping[str, Any], family: Family, layers: int, unrotated: frozenset[int]
) -> tuple[int | None, ...]:
    """The window of each layer: layer_types where given, else the family's rule."""
    window = None if facts.get("sliding_window") is None else count(facts, "sliding_window")
    if "use_sliding_window" in family.own and not flag(facts, "use_sliding_window"):
        window = None
    types = facts.get("layer_types")
    if types is not None:
        known = {FULL: None, "attention": None, SLIDING: window}
        if (
            not isinstance(types, list)
            or len(types) != layers
            or not all(isinstance(kind, str) and kind in known for kind in types)
        ):
            raise ConfigError(
                f"layer_types is not one of {', '.join(known)} for each of {layers} layers: {_short(types)}"
            )
        if window is None and SLIDING in types:
            raise ConfigError("layer_types names sliding_attention, but no sliding_window is in use")
        return tuple(known[kind] for kind in types)
    if family.windows == "late":
        first = count(facts, "max_window_layers", 28, least=0)
        return tuple(window if layer >= first else None for layer in range(layers))
    if family.windows == "pattern":
        every = count(facts, "sliding_window_pattern")
        return tuple(window if (layer + 1) % every else None for layer in range(layers))
    if family.windows == "nope":
        return tuple(window if layer in unrotated else None for layer in range(layers))
    return (window if family.windows == "all" else None,) * layers


def _short(types: Any) -> str:
    """The kinds that a list names, not each of its hundred entries."""
    if isinstance(types, list) and all(isinstance(kind, str) for kind in types):
        return f"{len(types)} of {', '.join(sorted(set(types)))}"
    return repr(types)
