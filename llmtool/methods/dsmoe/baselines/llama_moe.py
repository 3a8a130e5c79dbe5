"""LLaMA-MoE (Zhu et al., EMNLP 2024, arXiv 2406.16554): the same split, and always the top k experts of a softmax.

Exported with checkpoints: imports torch and core/model only. The weights of the chosen experts are the softmax of the
top k logits times n / k, LLaMA-MoE's score scale factor. Its noise on the logits in training is left out: with it every
figure would hang on one more constant.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts
from llmtool.core.model.ffn import ACTIVATIONS

SCORES = "llama_moe.scores."
"""carry.shared[SCORES + layer]: weights of the experts before the factor n / k [B, T, n], 0 where not chosen."""


class TopKSwiGLU(nn.Module):
    """down(w * silu(gate(x)) * up(x)), w = n / k softmax(top-k router(x)) for each of n blocks."""

    def __init__(self, config: Config, layer: int, experts: int, active: int) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.router = nn.Linear(hidden, experts, bias=False)
        self.layer, self.experts, self.active = layer, experts, active
        self.activate = ACTIVATIONS[config.activation]

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input -> delta [B, T, d]."""
        precise = torch.promote_types(x.dtype, torch.float32)
        logits = F.linear(x.to(precise), self.router.weight.to(precise))
        best = logits.topk(self.active, -1)
        scores = torch.zeros_like(logits).scatter(-1, best.indices, best.values.softmax(-1))
        carry.shared[f"{SCORES}{self.layer}"] = scores
        weights = scores * (self.experts / self.active)
        a = self.activate(self.gate_proj(x)) * self.up_proj(x)
        blocks = a.view(*a.shape[:-1], self.experts, -1) * weights.to(a.dtype)[..., None]
        delta: torch.Tensor = self.down_proj(blocks.view(a.shape))
        return delta


class LlamaMoE:
    """The change that an entry {"name": "llama_moe", "experts", "active"} asks for: every layer."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers take the top k of n experts."""

        def make_ffn(config: Config, layer: int) -> nn.Module:
            experts, active = settings.get("experts"), settings.get("active")
            if type(experts) is not int or experts < 1 or config.intermediate_size % experts:
                raise ConfigError(f"llama_moe: experts {experts!r} do not divide {config.intermediate_size}")
            if type(active) is not int or not 1 <= active <= experts:
                raise ConfigError(f"llama_moe: active {active!r} is not between 1 and {experts}")
            return TopKSwiGLU(config, layer, experts, active)

        return replace(parts, make_ffn=make_ffn)
