"""CartesianMoE's feed-forward part: two routed sub-layers, each with a shared expert, the second behind its own norm.

Exported with checkpoints: imports torch and core/model only. A token's path is a pair (A_i, B_j): N x N composite
experts out of 2 N that share their halves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Parts, added
from llmtool.core.model.entry import Entry, count
from llmtool.core.model.experts import Coefficient, Experts, record, route
from llmtool.core.model.ffn import SwiGLU, weight_of
from llmtool.core.model.norm import RMSNorm

NAME = "cartesian_moe"
SUBLAYERS = ("a", "b")


@dataclass(frozen=True)
class Settings:
    """The method's entry in config.json, checked."""

    layers: tuple[int, ...]
    """Layers that have the part; the paper: every other one, from the second on."""
    experts: int
    """N, of each sub-layer."""
    top_k: int = 2
    grain: int = 2
    """g: experts are D / g wide."""
    shared: bool = True
    normalise: bool = True
    """Weights sum to 1; the paper: for top_k > 1. For top_k 1 the weight is then 1, with the gradient of log p."""
    skip: int = 0
    """Leave out each token's best experts, so many: how much hangs on them. For evaluation."""


def read_settings(raw: Mapping[str, Any], config: Config) -> Settings:
    """Settings of a method entry; ConfigError names the field that is wrong."""
    entry = Entry(raw, config, Settings.__dataclass_fields__)
    entry.plain_block()
    grain = entry.count("grain", 2)
    if config.intermediate_size % grain:
        raise entry.error(f"grain {grain} does not divide intermediate_size {config.intermediate_size}")
    experts = entry.count("experts")
    top_k = entry.count("top_k", 2, most=experts)
    return Settings(
        entry.layers(), experts, top_k, grain, entry.flag("shared", True), entry.flag("normalise", top_k > 1),
        entry.count("skip", 0, least=0, most=experts - top_k),
    )  # fmt: skip


class SubLayer(nn.Module):
    """c_0 sum_j w_j E_j(x) + c_1 S(x); without a shared expert the sum alone."""

    def __init__(self, config: Config, layer: int, place: str, settings: Settings) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size // settings.grain
        self.router = nn.Linear(hidden, settings.experts, bias=False)
        self.experts = Experts(settings.experts, hidden, inner, settings.top_k)
        if settings.shared:
            self.shared = SwiGLU(replace(config, intermediate_size=inner), layer)
            self.coefficient = Coefficient(hidden)
        self.place, self.settings = place, settings

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the stream -> what is added to it [B, T, d]."""
        flat, own = x.flatten(0, 1), self.settings
        choice = route(flat, weight_of(self.router), own.top_k, normalise=own.normalise, skip=own.skip)
        record(carry, self.place, choice, x.shape)
        routed: torch.Tensor = self.experts(flat, choice).view(x.shape)
        if not own.shared:
            return routed
        c = self.coefficient(x)
        mixed: torch.Tensor = c[..., :1] * routed + c[..., 1:] * self.shared(x, h, carry)
        return mixed.to(routed.dtype)


class CartesianFFN(nn.Module):
    """A(x), then B of the normed stream that A has changed; the sum of both is the part's delta."""

    additions = 2
    """To the residual stream; core.model.new divides new maps into it by the root of their number."""

    def __init__(self, config: Config, layer: int, settings: Settings) -> None:
        super().__init__()
        self.a = SubLayer(config, layer, f"{layer}.a", settings)
        self.b = SubLayer(config, layer, f"{layer}.b", settings)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.residual_scale = config.residual_scale

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream -> delta [B, T, d].

        Never a difference of two streams: in bf16 that would lose the bits that matter.
        """
        a = self.a(x, h, carry)
        stream = added(h, a, self.residual_scale)  # as the block will add it
        delta: torch.Tensor = a + self.b(self.norm(stream), stream, carry)
        return delta


class CartesianMoE:
    """The change that an entry {"name": "cartesian_moe", ...} asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {"skip": count}
    """Settings that may be given anew when a checkpoint is loaded, and what reads them."""
    serving = """Serving engines without remote code: two routed sub-layers in one block exist in none of them. vLLM's
  Transformers backend may run the code in this directory: untested."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers are CartesianMoE's in the layers of the settings."""
        before = parts.make_ffn

        def make_ffn(config: Config, layer: int) -> nn.Module:
            read = read_settings(settings, config)
            return CartesianFFN(config, layer, read) if layer in read.layers else before(config, layer)

        return replace(parts, make_ffn=make_ffn)
