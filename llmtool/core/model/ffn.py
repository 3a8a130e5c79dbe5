"""The base feed-forward part: a gated layer, SwiGLU unless the config names another activation."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """GELU by the tanh formula."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"silu": F.silu, "gelu_tanh": gelu_tanh}
"""Config.activation -> the function of the gate."""


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, element by element."""
    return F.silu(gate) * up


def geglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, element by element (Gemma)."""
    return gelu_tanh(gate) * up


def weight_of(linear: nn.Linear) -> torch.Tensor:
    """The matrix [out, in] that a linear map multiplies by: with its adapter, where a method (LoRA) gave it one."""
    weight: torch.Tensor = getattr(linear, "effective_weight", linear.weight)
    return weight


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), or with the activation that the config names."""

    op = "swiglu"
    """The kernel that may take the place of `compute`; see decoder.Parts.kernels. None for other activations."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.compute = swiglu if config.activation == "silu" else geglu
        if config.activation != "silu":
            self.op = ""

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream (not used here) -> delta [B, T, d]."""
        delta: torch.Tensor = self.down_proj(self.compute(self.gate_proj(x), self.up_proj(x)))
        return delta
