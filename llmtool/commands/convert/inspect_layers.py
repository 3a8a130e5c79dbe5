"""One layer of a checkpoint, counted from its headers: parameters, FLOPs, the cache; None for what they do not tell."""

import re
from typing import Any, TypeGuard

from llmtool.core.checkpoint.safetensors_file import TensorEntry
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.numbers import whole

LAYER = re.compile(r"model\.layers\.(\d+)\.(\w+)")


@dataclass(frozen=True)
class LayerFacts:
    """One layer; FLOPs and KV bytes are for one token, `attention_flops` for each position that it attends to."""

    layer: int
    parameters: int | None
    attention_parameters: int | None
    ffn_parameters: int | None
    """None where several of them are packed into one element."""
    bytes: int
    flops: int | None
    """None where matrices are quantized, or stand otherwise than is known here."""
    attention_flops: int | None
    kv_bytes: int | None
    """None where queries, keys and values stand in tensors of other names, too."""
    window: int | None

    def at(self, context: int) -> tuple[int | None, int | None]:
        """FLOPs of a token that attends to `context` positions, and bytes of the cache that holds them."""
        positions = min(context, self.window or context)
        known = self.flops is not None and self.attention_flops is not None
        flops = (self.flops or 0) + positions * (self.attention_flops or 0) if known else None
        return flops, None if self.kv_bytes is None else positions * self.kv_bytes


def by_layer(entries: dict[str, TensorEntry]) -> dict[int, list[tuple[str, TensorEntry]]]:
    """Layer -> (part, tensor) of all its tensors; part is "self_attn", "mlp" or the name of a norm."""
    layers: dict[int, list[tuple[str, TensorEntry]]] = {}
    for name, entry in entries.items():
        if match := LAYER.match(name):
            layers.setdefault(whole(match[1], "layer", where=name), []).append((match[2], entry))
    return layers


def layer_facts(
    number: int,
    found: list[tuple[str, TensorEntry]],
    config: dict[str, Any],
    supported: bool,
    windows: tuple[int | None, ...],
) -> LayerFacts:
    """Facts of the layer of these tensors. supported: it is of a model that can be run here."""
    matrices = [entry for _, entry in found if is_weight(entry, config)]
    packed, plain = any(map(is_packed, matrices)), all(map(is_plain, matrices))

    def rows(projection: str) -> tuple[int, int]:
        """Output size of a projection of this layer, and bytes of an element; 0 where there is none."""
        name = f"model.layers.{number}.self_attn.{projection}.weight"
        entry = next((entry for _, entry in found if entry.name == name), None)
        return (entry.shape[0], entry.kind.size) if entry and len(entry.shape) == 2 else (0, 0)

    def parameters(*parts: str) -> int | None:
        number = sum(e.elements for of, e in found if (not parts or of in parts) and is_parameter(e, config))
        return None if packed or not (number or supported) else number

    (queries, _), (keys, key_size), (values, value_size) = map(rows, ("q_proj", "k_proj", "v_proj"))
    out = next((e.shape[1] for _, e in found if e.name.endswith("o_proj.weight") and len(e.shape) == 2), 0)
    known = plain and (supported or bool(queries and keys and values and out))
    return LayerFacts(
        layer=number,
        parameters=parameters(),
        attention_parameters=parameters("self_attn"),
        ffn_parameters=parameters("mlp", "block_sparse_moe"),
        bytes=sum(entry.size for _, entry in found),
        flops=2 * used if plain and (used := _used(found, config, supported)) is not None else None,
        attention_flops=2 * queries + 2 * out if known else None,
        kv_bytes=keys * key_size + values * value_size if known else None,
        window=windows[number] if number < len(windows) else _window(number, config),
    )


def _used(found: list[tuple[str, TensorEntry]], config: dict[str, Any], supported: bool) -> int | None:
    """Elements of matrices that a token of a layer is multiplied by: of the experts, those that it takes.

    None where another model has stacks of matrices, or experts of which it does not say how many.
    """
    matrices = [entry for _, entry in found if len(entry.shape) > 1 and entry.kind.floating]
    experts = [entry for entry in matrices if ".experts." in entry.name]
    numbers = {match[1] for entry in experts if (match := re.search(r"\.experts\.(\d+)\.", entry.name))}
    number = len(numbers) or next((entry.shape[0] for entry in experts), 1)  # one by one, or stacked
    ours, taken = config.get("llmtool"), config.get("num_experts_per_tok")
    methods = ours.get("methods") if isinstance(ours, dict) else None
    layer = next((whole(match[1], "layer") for entry in experts if (match := LAYER.match(entry.name))), -1)
    for method in methods if isinstance(methods, list) else []:  # a method with experts of its own says so
        if isinstance(method, dict) and "top_k" in method and layer in method.get("layers", [layer]):
            taken = method["top_k"]
    stacks = any(len(entry.shape) > 2 and entry not in experts for entry in matrices)
    if not supported and (stacks or (experts and not is_counted(taken))):
        return None
    taken = min(taken, number) if is_counted(taken) else number
    of_experts = sum(entry.elements for entry in experts)
    return sum(entry.elements for entry in matrices) - of_experts + of_experts * taken // max(1, number)


def _window(layer: int, config: dict[str, Any]) -> int | None:
    """Positions that a layer attends to, where they are limited."""
    kinds, first, ours = config.get("layer_types"), config.get("max_window_layers", 28), config.get("llmtool")
    if isinstance(kinds, list) and layer < len(kinds):
        slides = kinds[layer] == "sliding_attention"
    elif (ours.get("family") if isinstance(ours, dict) else config.get("model_type")) == "mistral":
        slides = True
    else:  # Qwen's rule: the later layers slide, if asked for
        slides = config.get("use_sliding_window") is True and type(first) is int and layer >= first
    window = config.get("sliding_window")
    return window if slides and is_counted(window) else None


def is_counted(value: Any) -> TypeGuard[int]:
    """Whether it is a number of things."""
    return type(value) is int and value > 0


def is_plain(entry: TensorEntry) -> bool:
    """Whether a matrix is numbers as they are used, one an element."""
    return entry.kind.floating and not entry.kind.quantized


def is_parameter(entry: TensorEntry, config: dict[str, Any]) -> bool:
    """Whether a tensor is trained; methods of llmtool keep tables of integers beside those (MaskMoE)."""
    return entry.kind.floating or not isinstance(config.get("llmtool"), dict)


def is_weight(entry: TensorEntry, config: dict[str, Any]) -> bool:
    """Whether a tensor is a matrix of weights."""
    return len(entry.shape) > 1 and is_parameter(entry, config)


def is_packed(entry: TensorEntry) -> bool:
    """Whether elements of a matrix hold several numbers each, as 4-bit layouts have it."""
    return not entry.kind.floating and entry.kind.code != "BOOL"
