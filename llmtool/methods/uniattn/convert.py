"""A checkpoint -> one whose followers have no q_proj, no k_proj and a compensation: a stream of tensors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.config import Config
from llmtool.core.run.errors import UserError
from llmtool.methods.uniattn.plan import Groups, followers_of

DROPPED = {"uniattn": ("q_proj", "k_proj", "q_norm", "k_norm"), "cla": ("k_proj", "v_proj", "k_norm")}
"""What a follower does not have, for each way to share."""

State = Mapping[int, Mapping[str, torch.Tensor]]
"""Follower -> state of its compensation."""


def entry(groups: Groups, compensation: str | dict[str, int] | None, kind: str = "uniattn") -> dict[str, Any]:
    """The method's object in config.json."""
    more = {} if compensation is None else {"compensation": compensation}
    return {"name": kind, "version": 1, "groups": groups, **more}


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
        yield name, tensor
        if name in places:
            for key, value in compensations[places[name]].items():
                place = name.replace("o_proj.weight", f"compensation.{key}")
                yield place, value.to(dtype=tensor.dtype).contiguous()
