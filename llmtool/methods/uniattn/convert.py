"""A checkpoint -> one whose followers have no q_proj, no k_proj and a compensation: a stream of tensors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.config import Config
from llmtool.core.run.errors import UserError
from llmtool.methods.uniattn.part import Heads, identity_heads
from llmtool.methods.uniattn.plan import Groups, followers_of

DROPPED = {"uniattn": ("q_proj", "k_proj", "q_norm", "k_norm"), "cla": ("k_proj", "v_proj", "k_norm")}
"""What a follower does not have, for each way to share."""

State = Mapping[int, Mapping[str, torch.Tensor]]
"""Follower -> state of its compensation; where o_proj was fitted anew "o_proj" is what is added to its weight."""
OUTPUT = "o_proj"


def entry(
    groups: Groups,
    compensation: str | dict[str, int] | None,
    kind: str = "uniattn",
    heads: Mapping[int, Heads] | None = None,
) -> dict[str, Any]:
    """The method's object in config.json: version 1, or 2 where a head reads another than the leader's own number."""
    facts: dict[str, Any] = {"name": kind, "version": 1, "groups": groups}
    leaders = followers_of(groups)
    if heads and any(list(of) != identity_heads(leaders[layer], len(of)) for layer, of in heads.items()):
        facts.update(version=2, head_map={str(layer): [list(pair) for pair in of] for layer, of in heads.items()})
    return facts if compensation is None else {**facts, "compensation": compensation}


def refuse_shared(checkpoint: CheckpointReader, config: Config) -> None:
    """Layers can be unified once: a follower has no queries to lead with."""
    for method in config.methods:
        if method["name"] == "lora":  # its adapters stand on projections that would go
            raise UserError("has adapters", where=str(checkpoint.path), hint="llmtool convert merge-lora first")
        if method["name"] in DROPPED:
            what = f"is converted already: its layers share by {method['name']}, groups {method.get('groups')}"
            raise UserError(what, where=str(checkpoint.path), hint="convert the original")


def changed_config(config: Config, method: Mapping[str, Any]) -> Config:
    """The architecture with one more method."""
    return replace(config, methods=(*config.methods, method))


def dropped_names(names: Iterable[str], groups: Groups, kind: str) -> set[str]:
    """The tensors that go."""
    prefixes = tuple(
        f"model.layers.{layer}.self_attn.{part}." for layer in followers_of(groups) for part in DROPPED[kind]
    )
    return {name for name in names if prefixes and name.startswith(prefixes)}


def convert(
    tensors: Iterable[tuple[str, torch.Tensor]], groups: Groups, compensations: State, kind: str = "uniattn"
) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) -> (name, tensor): what followers do not have is left out, W_c comes behind o_proj."""
    places = {f"model.layers.{layer}.self_attn.o_proj.weight": layer for layer in compensations}
    for name, tensor in tensors:
        if dropped_names([name], groups, kind):
            continue
        state = compensations[places[name]] if name in places else {}
        more = state.get(OUTPUT)
        yield name, tensor if more is None else (tensor.to(more.dtype) + more).to(tensor.dtype).contiguous()
        for key, value in state.items():
            if key != OUTPUT:
                yield name.replace("o_proj.weight", f"compensation.{key}"), value.to(dtype=tensor.dtype).contiguous()
