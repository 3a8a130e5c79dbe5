"""Tensors that a family stores under other names than Llama's: shown apart when read, put together again when written.

Phi-3 keeps q, k and v in one matrix, gate and up in another; Granite 4 names its dense feed-forward part after the
experts that it could have. Rows of a matrix are one range of bytes in its file, so that a part of one is an entry like
any other: nothing is copied, and whoever reads a checkpoint sees one set of names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.safetensors_file import TensorEntry
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.numbers import whole

if TYPE_CHECKING:
    import torch

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYERS = "model.layers."
TIED = ("gemma2", "gemma3_text", "smollm3")
"""Families whose output layer is the embedding where config.json does not say."""


@dataclass(frozen=True)
class Fused:
    """A stored matrix, named from its layer on, and the matrices whose rows it holds one after the other."""

    whole: str
    parts: tuple[str, ...]

    def shares(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """How many shares of the rows each part has; empty where config.json does not say."""
        if "qkv" not in self.whole:
            return (1,) * len(self.parts)
        heads, shared = config.get("num_attention_heads"), config.get("num_key_value_heads")
        shared = heads if shared is None else shared
        counts = all(type(x) is int and x > 0 for x in (heads, shared))
        return (int(heads), int(shared), int(shared)) if counts and heads and shared else ()


QKV = Fused(
    "self_attn.qkv_proj.weight", ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight")
)
GATE_UP = ("mlp.gate_proj.weight", "mlp.up_proj.weight")
LAYOUTS: Mapping[str, tuple[Fused, ...]] = {
    "phi3": (QKV, Fused("mlp.gate_up_proj.weight", GATE_UP)),
    "glm": (Fused("mlp.gate_up_proj.weight", GATE_UP),),
    "glm4": (Fused("mlp.gate_up_proj.weight", GATE_UP),),
    "granitemoehybrid": (
        Fused("shared_mlp.input_linear.weight", GATE_UP),
        Fused("shared_mlp.output_linear.weight", ("mlp.down_proj.weight",)),
    ),
}
"""model_type -> its fused matrices."""


@dataclass(frozen=True)
class PerExpert:
    """How a family names its router and each expert's matrices; the decoder has `mlp.router` and stacks of experts."""

    router: str
    expert: str
    """With the expert's number and the matrix's name left open."""
    matrices: Mapping[str, str]
    """Our stack -> the name of a matrix of it."""


STACK = "mlp.experts."
ROUTER = "mlp.router.weight"
FUSED_ROUTER = "mlp.gate.weight"
FUSED_EXPERTS: Mapping[str, tuple[str, ...]] = {
    f"{STACK}gate_up_proj": ("gate", "up"), f"{STACK}down_proj": ("down",),
}  # fmt: skip
"""The stacks of all experts that transformers 5 holds in memory and writes with save_original_format=False: [E, 2
inner, hidden], an expert's gate rows before its up rows, and [E, hidden, inner]. Read, never written: readers that know
one tensor an expert only leave them out without a word."""
EXPERTS = {
    "mixtral": PerExpert(
        "block_sparse_moe.gate.weight", "block_sparse_moe.experts.{}.{}.weight",
        {"gate": "w1", "up": "w3", "down": "w2"},
    ),
    "qwen3_moe": PerExpert(
        "mlp.gate.weight", "mlp.experts.{}.{}.weight", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    ),
}  # fmt: skip
"""model_type -> names on disk, one tensor an expert: the form that transformers 4.x and 5.x and vLLM read."""


def stacks_of(names: Iterable[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Our name -> the stored names that it stands for, in the experts' order; a run with a gap is left as it is."""
    form = EXPERTS.get(str(config.get("model_type")))
    if form is None:
        return {}
    stack_of = {matrix: stack for stack, matrix in form.matrices.items()}
    pattern = re.compile(re.escape(form.expert).replace(r"\{\}", r"(\w+)"))
    found: dict[str, dict[int, str]] = {}
    for name in names:
        prefix, suffix = _split_name(name)
        if suffix == form.router:
            found[prefix + ROUTER] = {0: name}
        elif (match := pattern.fullmatch(suffix)) and match[1].isdecimal() and match[2] in stack_of:
            found.setdefault(f"{prefix}{STACK}{stack_of[match[2]]}", {})[whole(match[1], "expert", where=name)] = name
    return {
        ours: [held[number] for number in sorted(held)] for ours, held in found.items() if max(held) + 1 == len(held)
    }


def named_apart(entries: Mapping[str, TensorEntry], config: Mapping[str, Any]) -> dict[str, TensorEntry]:
    """The entries of a file under the names that the decoder uses; what does not divide evenly stays as it is."""
    fused = {each.whole: each for each in LAYOUTS.get(str(config.get("model_type")), ())}
    form = EXPERTS.get(str(config.get("model_type")))
    found: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        prefix, suffix = _split_name(name)
        each = fused.get(suffix)
        if form is not None and (suffix in FUSED_EXPERTS or suffix == FUSED_ROUTER):
            found.update((part.name, part) for part in _each_expert(entry, prefix, suffix, form))
        elif each is None:
            found[name] = entry
        else:
            found.update((part.name, part) for part in _cut(entry, prefix, each, each.shares(config)))
    return found


def _split_name(name: str) -> tuple[str, str]:
    """ "model.layers.3.mlp.x" -> "model.layers.3.", "mlp.x"."""
    if not name.startswith(LAYERS):
        return "", name
    number, _, suffix = name[len(LAYERS) :].partition(".")
    return f"{LAYERS}{number}.", suffix


def _cut(entry: TensorEntry, prefix: str, fused: Fused, shares: tuple[int, ...]) -> Iterator[TensorEntry]:
    total = sum(shares)
    if not total or not entry.shape or entry.shape[0] % total:
        yield entry
        return
    rows, start = entry.shape[0] // total, entry.start
    for part, share in zip(fused.parts, shares, strict=True):
        stop = start + entry.size // total * share
        yield replace(entry, name=prefix + part, shape=(rows * share, *entry.shape[1:]), start=start, stop=stop)
        start = stop


def _each_expert(entry: TensorEntry, prefix: str, suffix: str, form: PerExpert) -> Iterator[TensorEntry]:
    """The matrices of a stack of experts, or the router beside it, under the names that the family has on disk."""
    if suffix == FUSED_ROUTER:
        yield replace(entry, name=prefix + form.router)
        return
    kinds = FUSED_EXPERTS[suffix]
    if len(entry.shape) != 3 or not entry.shape[0] or entry.shape[1] % len(kinds):
        yield entry
        return
    experts, rows, width = entry.shape[0], entry.shape[1] // len(kinds), entry.shape[2]
    size = entry.size // (experts * len(kinds))
    for number in range(experts * len(kinds)):
        expert, kind = divmod(number, len(kinds))
        name, start = prefix + form.expert.format(expert, form.matrices[kinds[kind]]), entry.start + number * size
        yield replace(entry, name=name, shape=(rows, width), start=start, stop=start + size)


def tied_by_head(names: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Whether the file holds only the output layer of a tied pair: safetensors' save_model keeps one of two names."""
    ties = config.get("tie_word_embeddings", config.get("model_type") in TIED)
    held = set(names)
    return ties is True and HEAD in held and EMBEDDING not in held


def put_together(
    tensors: Iterable[tuple[str, "torch.Tensor"]], config: Mapping[str, Any]
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """A stream for a checkpoint of this config, with fused matrices where its model_type stores them."""
    if (form := EXPERTS.get(str(config.get("model_type")))) is not None:
        return _by_expert(tensors, form)
    owner = {part: each for each in LAYOUTS.get(str(config.get("model_type")), ()) for part in each.parts}
    return _fused(tensors, owner) if owner else iter(tensors)


def _by_expert(tensors: Iterable[tuple[str, "torch.Tensor"]], form: PerExpert) -> Iterator[tuple[str, "torch.Tensor"]]:
    for name, tensor in tensors:
        prefix, suffix = _split_name(name)
        if suffix == ROUTER:
            yield prefix + form.router, tensor
        elif suffix.startswith(STACK):
            for number, matrix in enumerate(tensor):
                yield prefix + form.expert.format(number, form.matrices[suffix[len(STACK) :]]), matrix.contiguous()
        else:
            yield name, tensor


def _fused(
    tensors: Iterable[tuple[str, "torch.Tensor"]], owner: Mapping[str, Fused]
) -> Iterator[tuple[str, "torch.Tensor"]]:
    import torch

    waiting: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors:
        prefix, suffix = _split_name(name)
        each = owner.get(suffix)
        if each is None:
            yield name, tensor
            del tensor  # or it would live until the next one is complete
            continue
        held = waiting.setdefault(prefix + each.whole, {})
        held[suffix] = tensor
        if len(held) == len(each.parts):
            yield prefix + each.whole, torch.cat([waiting[prefix + each.whole][part] for part in each.parts])
            del waiting[prefix + each.whole], held
    for name, held in waiting.items():
        raise ValueError(f"{name} lacks a part: only {', '.join(held)} came")
