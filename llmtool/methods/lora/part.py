"""The adapters as parts of the decoder: they load, run, train and export like any other. Exported with checkpoints.

config.json: {"name": "lora", "version": 1, "rank": R, "alpha": A, "targets": ["q_proj", ...]}; last of the methods.
y = W x + (A / R) up down x for each target of each layer that has one; W keeps its name, and `NAME.lora_down` [R, in]
and `NAME.lora_up` [out, R] stand beside it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts

NAME, VERSION = "lora", 1
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoRALinear(nn.Linear):
    """A linear map with an adapter; a new one changes nothing, because lora_up is zero."""

    def __init__(self, like: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(like.in_features, like.out_features, bias=like.bias is not None, device="meta")
        self.weight, self.bias = like.weight, like.bias
        self.scale = alpha / rank
        kind, device = like.weight.dtype, like.weight.device
        self.lora_down = nn.Parameter(torch.randn(rank, like.in_features, dtype=kind, device=device))
        self.lora_up = nn.Parameter(torch.zeros(like.out_features, rank, dtype=kind, device=device))
        with torch.no_grad():
            self.lora_down.mul_(like.in_features**-0.5)

    @property
    def effective_weight(self) -> torch.Tensor:
        """W + (A / R) up down [out, in]: for parts that read a matrix instead of calling the map (ffn.weight_of)."""
        return self.weight + self.lora_up @ self.lora_down * self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> [..., out]."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up) * self.scale


def add_adapters(module: nn.Module, targets: Collection[str], rank: int, alpha: float) -> nn.Module:
    """The module with adapters on its linear maps of these names."""
    for name, child in module.named_children():
        if name in targets and isinstance(child, nn.Linear):
            setattr(module, name, LoRALinear(child, rank, alpha))
    return module


class LoRA:
    """change(parts, settings) -> parts with adapters."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """settings: the method's entry in config.json."""
        if settings.get("version") != VERSION:
            raise ConfigError(f"lora: version {settings.get('version')!r} is not supported: only {VERSION} is")
        rank, alpha, targets = settings.get("rank"), settings.get("alpha"), settings.get("targets")
        if type(rank) is not int or rank < 1 or not isinstance(alpha, int | float) or not alpha > 0:
            raise ConfigError(f"lora: rank {rank!r} and alpha {alpha!r} are not numbers above 0")
        if not isinstance(targets, list) or not targets or not set(targets) <= set(TARGETS):
            raise ConfigError(f"lora: targets {targets!r} are not among {', '.join(TARGETS)}")

        def adapted(make: Callable[[Config, int], nn.Module]) -> Callable[[Config, int], nn.Module]:
            return lambda config, layer: add_adapters(make(config, layer), targets, int(rank), float(alpha))

        return replace(parts, make_attention=adapted(parts.make_attention), make_ffn=adapted(parts.make_ffn))
