"""2:4 sparse feed-forward matrices (Wanda, Sun et al., ICLR 2024, arXiv 2306.11695): zeros that training keeps.

Exported with checkpoints: imports torch and core/model only. A weight that is 0 gets no gradient, so AdamW leaves it at
0 (its moments stay 0, and decay of 0 is 0): the mask needs no tensor of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Parts
from llmtool.core.model.ffn import ACTIVATIONS


class Sparse24SwiGLU(nn.Module):
    """SwiGLU whose zero weights stay zero."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.activate = ACTIVATIONS[config.activation]

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input -> delta [B, T, d]."""

        def product(layer: nn.Linear, y: torch.Tensor) -> torch.Tensor:
            weight = layer.weight * (layer.weight != 0) if self.training else layer.weight
            return F.linear(y, weight, layer.bias)

        return product(self.down_proj, self.activate(product(self.gate_proj, x)) * product(self.up_proj, x))


class Sparse24:
    """The change that an entry {"name": "sparse24"} asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers keep their zeros."""
        return replace(parts, make_ffn=Sparse24SwiGLU)
