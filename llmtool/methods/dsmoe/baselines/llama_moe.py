"""LLaMA-MoE (Zhu et al., EMNLP 2024, arXiv 2406.16554): the same split, and always the top k experts of a softmax.

Exported with checkpoints: imports torch and core/model only. The weights of the chosen experts are the softmax of the
top k logits times n / k, LLaMA-MoE's score scale factor. Its noise on the logits in training is left out: with it every
figure would hang on one more constant. Names are those of the dense layer; the experts are views of its matrices.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts
from llmtool.core.model.experts import Stacks, dispatch, record, route
from llmtool.core.model.ffn import weight_of


class TopKSwiGLU(nn.Module):
    """The sum of k of n blocks of a SwiGLU, each times n / k softmax(top-k router(x))."""

    ops = ("grouped_swiglu", "grouped_gemm")

    def __init__(self, config: Config, layer: int, experts: int, active: int) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)
        self.router = nn.Linear(hidden, experts, bias=False)
        self.layer, self.experts, self.active = layer, experts, active
        self.kernels: Mapping[str, Callable[..., Any]] = {}

    @property
    def stacks(self) -> Stacks:
        """Block e of rows of gate and up and of columns of down is expert e."""
        gate, up, down = (weight_of(linear) for linear in (self.gate_proj, self.up_proj, self.down_proj))
        rows = self.experts, -1, gate.shape[1]
        return Stacks(gate.view(rows), up.view(rows), down.view(len(down), self.experts, -1).transpose(0, 1))

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input -> delta [B, T, d]."""
        flat = x.flatten(0, 1)
        choice = route(flat, weight_of(self.router), self.active)
        record(carry, str(self.layer), choice, x.shape)
        choice = replace(choice, weights=choice.weights * (self.experts / self.active))
        return dispatch(flat, choice, self.stacks, self.kernels).view(x.shape)


class LlamaMoE:
    """The change that an entry {"name": "llama_moe", "experts", "active"} asks for: every layer."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers take the top k of n experts."""

        def make_ffn(config: Config, layer: int) -> nn.Module:
            experts, active = settings.get("experts"), settings.get("active")
            if type(experts) is not int or experts < 1 or config.intermediate_size % experts:
                raise ConfigError(f"llama_moe: experts {experts!r} do not divide {config.intermediate_size}")
            if config.activation != "silu":
                raise ConfigError(f"llama_moe: experts with {config.activation} are not supported: only silu")
            if type(active) is not int or not 1 <= active <= experts:
                raise ConfigError(f"llama_moe: active {active!r} is not between 1 and {experts}")
            if config.mlp_bias:
                raise ConfigError("llama_moe: experts have no biases, but mlp_bias is true")
            return TopKSwiGLU(config, layer, experts, active)

        return replace(parts, make_ffn=make_ffn)
