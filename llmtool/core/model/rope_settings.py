"""The rotary settings of a config.json, in the 4.x and the 5.x spelling, for all layers or by the kind of layer.

The standard library only; exported with checkpoints (core/model/export.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtool.core.model.families import Family
from llmtool.core.model.fields import ConfigError, count, flag, number

FULL, SLIDING = "full_attention", "sliding_attention"

ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
}
"""Keys that a rope_type must have beside rope_theta."""

ROPE_OPTIONS = {
    "llama3": ("original_max_position_embeddings",),
    "yarn": (
        "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "truncate",
    ),
    "longrope": ("original_max_position_embeddings", "attention_factor", "factor"),
}  # fmt: skip
"""Keys that a rope_type may have."""


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
    partial: float = 1.0
    """Share of a head's dimensions that turn, the first ones."""
    short_factors: tuple[float, ...] = ()
    """LongRoPE: divisors of the frequencies while every position is below original_positions, [turned / 2]."""
    long_factors: tuple[float, ...] = ()
    """The same for passes that reach further."""
    llama_4_scaling_beta: float = 0.0
    """b of 1 + b ln(1 + floor(position / original_positions)), which queries are multiplied by; 0: they are not."""
    bases: tuple[float, ...] = ()
    """A base for each key-value head in theta's place, where a method gives them; empty: theta for all."""


def read_parameters(raw: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The rotary settings in the 5.x spelling, whichever the config uses.

    {"rope_type", "rope_theta", ...}; {"full_attention": {..}, "sliding_attention": {..}} where a family's layers with
    a window turn by tables of their own.
    """
    old, new = raw.get("rope_scaling"), raw.get("rope_parameters")
    if new is None and "rope_parameters" in family.defaults:
        if old is not None:  # transformers 5 would mix it with the default, and 4.x has no such family
            raise ConfigError("rope_scaling is the spelling of transformers 4.x: write rope_parameters here")
        new = family.defaults["rope_parameters"]
    for spelling in (old, new):
        if spelling is not None and not isinstance(spelling, Mapping):
            raise ConfigError(f"rope_parameters {spelling!r} is not an object")
    if family.local_theta is None:
        facts = _one(old, new)
        theta = _theta(facts, raw, family.defaults.get("rope_theta", 10000.0))
        return _checked(facts, theta, raw, family)
    if new and new.keys() & {FULL, SLIDING}:
        if strange := new.keys() - {FULL, SLIDING}:
            raise ConfigError(f"rope_parameters.{min(strange)} stands beside {FULL} and {SLIDING}")
        full, sliding = new.get(FULL) or {}, new.get(SLIDING) or {}
    else:
        # transformers 4.x: scaling is for the layers that see everything.
        full, sliding = _one(old, new), {}
    own = family.defaults.get("rope_theta", 10000.0)
    local = number(raw, "rope_local_base_freq", family.local_theta)
    if not sliding and "rope_local_base_freq" not in family.own and raw.get("rope_theta") not in (None, local):
        raise ConfigError(
            f"rope_theta = {raw['rope_theta']!r} does not say whether it is for layers with a window too: write "
            f"rope_parameters with {FULL} and {SLIDING}"
        )
    return {
        FULL: _checked(full, _theta(full, raw, own), raw, family),
        SLIDING: _checked(sliding, number(sliding, "rope_theta", local), raw, family),
    }


def _one(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if old and new and old != new:
        raise ConfigError("rope_scaling (4.x) and rope_parameters (5.x) contradict each other")
    return new or old or {}


def _theta(facts: Mapping[str, Any], raw: Mapping[str, Any], default: float) -> float:
    """rope_theta, which 4.x writes beside rope_scaling and 5.x into rope_parameters."""
    beside = None if raw.get("rope_theta") is None else number(raw, "rope_theta")
    inside = None if facts.get("rope_theta") is None else number(facts, "rope_theta")
    if beside is not None and inside is not None and beside != inside:
        raise ConfigError(f"rope_theta = {beside:g} and rope_parameters.rope_theta = {inside:g} contradict each other")
    return inside or beside or default


def _checked(facts: Mapping[str, Any], theta: float, raw: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """One set of settings, every key known."""
    facts = {key: value for key, value in facts.items() if value is not None and key != "rope_theta"}
    kind = facts.pop("rope_type", facts.get("type", "default"))
    if facts.pop("type", kind) != kind:
        raise ConfigError("rope_parameters: type and rope_type contradict each other")
    original = "original_max_position_embeddings"
    if original in family.own:
        kind = "longrope" if kind in ("su", "yarn") else kind
        if kind == "longrope":  # the model's own field comes first
            facts[original] = count(raw, original, family.defaults[original])
        else:
            facts.pop(original, None)
    if not isinstance(kind, str) or kind not in ROPE_KEYS:
        raise ConfigError(f"rope_type {kind!r} is not supported: wanted one of {', '.join(ROPE_KEYS)}")
    whole = raw.get("partial_rotary_factor", family.defaults.get("partial_rotary_factor"))
    partial = facts.pop("partial_rotary_factor", whole)
    facts = {key: value for key, value in facts.items() if key not in family.rope_idle}
    for key in (*ROPE_KEYS[kind], *sorted(family.rope_own)):
        if key not in facts:
            raise ConfigError(f"rope_type {kind!r} wants {key}")
    for key in facts:
        if key not in (*ROPE_KEYS[kind], *ROPE_OPTIONS.get(kind, ()), *family.rope_own):
            raise ConfigError(f"rope_parameters.{key} is not understood for rope_type {kind!r}")
    turned = {} if partial in (None, 1.0) else {"partial_rotary_factor": partial}
    if turned and not family.partial_rotary:
        raise ConfigError(f"partial_rotary_factor = {partial!r} is not supported here: only 1.0 is")
    return {"rope_type": kind, "rope_theta": theta, **turned, **facts}


def head_bases(methods: Sequence[Mapping[str, Any]], layers: int, heads: int) -> list[tuple[float, ...]]:
    """Bases of each layer's key-value heads [layers][heads], as a method's entry gives them; [] where none does.

    The entry's `bases`: one list for all layers, or a list for each.
    """
    for method in methods:
        if "bases" not in method:
            continue
        given, name = method["bases"], method.get("name")
        each = given if isinstance(given, list) and any(isinstance(row, list) for row in given) else [given] * layers
        if len(each) != layers:
            raise ConfigError(f"{name}: bases of {len(each)} layers: wanted {layers}, or one list for all of them")
        for row in each:
            if not isinstance(row, list) or len(row) != heads:
                raise ConfigError(f"{name}: bases {row!r}: wanted {heads}, one for each key-value head")
            if not all(isinstance(base, int | float) and type(base) is not bool and 1 < base < 1e30 for base in row):
                raise ConfigError(f"{name}: bases {row!r}: wanted numbers above 1")
        return [tuple(float(base) for base in row) for row in each]
    return []


def rope_settings(facts: Mapping[str, Any], positions: int, head_dim: int) -> RopeSettings:
    """Settings of one set of rope_parameters; `positions` are the model's max_position_embeddings."""
    facts = dict(facts)
    kind, theta = facts.pop("rope_type"), facts.pop("rope_theta")
    original = count(facts, "original_max_position_embeddings", positions)
    partial = number(facts, "partial_rotary_factor", 1.0)
    if partial > 1 or int(head_dim * partial) % 2:
        raise ConfigError(f"partial_rotary_factor = {partial:g} of head_dim {head_dim} is no even number of dimensions")
    read: dict[str, Any] = {"factor": positions / original} if kind == "longrope" else {}
    for key in facts.keys() - {"truncate", "original_max_position_embeddings", "partial_rotary_factor"}:
        if key in ("short_factor", "long_factor"):
            read[f"{key}s"] = _factors(facts, key, int(head_dim * partial) // 2)
        else:
            read[key] = number(facts, key)
    truncate = flag(facts, "truncate", default=True)
    return RopeSettings(theta=theta, kind=kind, original_positions=original, truncate=truncate, partial=partial, **read)


def _factors(facts: Mapping[str, Any], key: str, length: int) -> tuple[float, ...]:
    values = facts[key]
    if not isinstance(values, list) or len(values) != length:
        raise ConfigError(f"rope_parameters.{key} is not a list of {length} numbers, one for each pair that turns")
    return tuple(number({key: value}, key) for value in values)
