"""What travels through the blocks beside the residual stream, explicitly: no hidden attributes on modules."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from llmtool.core.model.rope import Tables
from llmtool.core.model.rope_settings import RopeSettings


class Cache(Protocol):
    """Keys and values of earlier tokens."""

    def update(
        self, layer: int, keys: torch.Tensor | None, values: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Add [B, heads, T, D]; return all so far, [B, heads, S, D]. keys is None where a layer has none of its own."""
        ...


@dataclass(frozen=True)
class Carry:
    """Read by every part. A part writes into `shared` and `losses` only; each block works on copies of these two."""

    positions: torch.Tensor
    """[1 or B, T]."""
    ropes: Mapping[RopeSettings, Tables]
    """Config.rope_of(layer) -> tables [1 or B, 1 or key-value heads, T, turned / 2] each."""
    masks: Mapping[int | None, torch.Tensor | None]
    """Sliding window -> what each token sees, bool [1 or B, 1, T, S]; None: all before it, and itself."""
    ids: torch.Tensor | None = None
    """Token ids [B, T], where the caller gave ids (MaskMoE routes by them)."""
    documents: torch.Tensor | None = None
    """Number of each token's document [B, T], in packed rows."""
    cache: Cache | None = None
    shared: dict[str, torch.Tensor] = field(default_factory=dict)
    """What a layer leaves to later ones (UniAttn: the leader's q and k; at decode its probabilities)."""
    losses: list[torch.Tensor] = field(default_factory=list)
    """Auxiliary losses, scalars, in the order of the layers (DSMoE, load balancing)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the injected attention kernel (vLLM's instances); parts do not look at them."""

    def fork(self) -> "Carry":
        """A copy that a block may write on: run again (activation checkpointing), it gives the same result."""
        return replace(self, shared=dict(self.shared), losses=list(self.losses))
