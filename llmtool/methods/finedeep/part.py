"""Finedeep's feed-forward part: M sub-layers one after another, each K experts side by side, weighed by their output.

Exported with checkpoints: imports torch and core/model only. Nothing is sparse: every expert runs for every token. A
sub-layer is a SwiGLU of width D / M whose K blocks are multiplied by c sigmoid(<r_k, y_k> + b_k). As <r, Down a> is
<Down^T r, a>, the score is known before the down projection, and all K projections are one product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Parts, added
from llmtool.core.model.entry import Entry
from llmtool.core.model.ffn import weight_of
from llmtool.core.model.norm import RMSNorm

NAME = "finedeep"
SCORES = "finedeep.scores."
"""carry.shared[SCORES + layer.sub]: the experts' scores s [B, T, K] in float32."""
ROUTERS = ("output-dot", "output-linear", "input", "none")
"""What a score is made from: the expert's own output, the sum of all outputs, the input (an ablation), or nothing."""


@dataclass(frozen=True)
class Settings:
    """The method's entry in config.json, checked."""

    layers: tuple[int, ...]
    sublayers: int
    """M."""
    experts: int
    """K, of each sub-layer."""
    router: str = "output-dot"
    bias: bool = True
    scale: float = 2.0
    """c: with 2 a score of 1/2 is a dense layer's weight."""


def read_settings(raw: Mapping[str, Any], config: Config) -> Settings:
    """Settings of a method entry; ConfigError names the field that is wrong."""
    entry = Entry(raw, config, Settings.__dataclass_fields__)
    entry.plain_block()
    sublayers, experts, inner = entry.count("sublayers"), entry.count("experts"), config.intermediate_size
    if inner % (sublayers * experts):
        near = nearest(inner, sublayers * experts)
        raise entry.error(f"{sublayers} x {experts} experts do not divide intermediate_size {inner:,}; {near} would")
    router = entry.word("router", "output-dot", ROUTERS)
    return Settings(
        entry.layers(), sublayers, experts, router, entry.flag("bias", True), entry.number("scale", 2.0, 1e-3, 1e3)
    )


def nearest(inner: int, parts: int) -> str:
    """Widths beside `inner` that so many parts divide, for a message."""
    low = inner // parts * parts
    return " or ".join(f"{width:,}" for width in (low, low + parts) if width)


class SubLayer(nn.Module):
    """c sum_k s_k y_k of K experts of D / (M K) neurons: maps of width D / M that hold the experts' blocks in order."""

    def __init__(self, config: Config, settings: Settings, number: int, place: str) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size // settings.sublayers
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)
        if settings.router != "none":
            self.router = nn.Parameter(torch.zeros(settings.experts, hidden))
            if settings.bias:
                self.bias = nn.Parameter(torch.zeros(settings.experts))
        self.norm: nn.Module | None = RMSNorm(hidden, config.rms_norm_eps) if number else None
        """Of all but the first sub-layer, which has the block's."""
        self.settings, self.place = settings, place
        self.kernels: Mapping[str, Callable[..., Any]] = {}

    ops = ("masked_swiglu",)

    def scores(self, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """s [..., K] in float32 (float64 for float64): bf16 would saturate for large outputs.

        x [..., d] the normed input, a [..., D / M] the activations.
        """
        experts, kind = self.settings.experts, self.settings.router
        precise = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            if kind == "none":
                return torch.full((*x.shape[:-1], experts), 0.5, dtype=precise, device=x.device)
            r, bias = self.router.to(precise), self.bias.to(precise) if self.settings.bias else None
            if kind == "input":
                return torch.sigmoid(F.linear(x.to(precise), r, bias))
            down = weight_of(self.down_proj).to(precise)
            wide = a.to(precise)
            if kind == "output-linear":
                return torch.sigmoid(F.linear(F.linear(wide, down), r, bias))
            q = torch.einsum("dkn,kd->kn", down.view(len(down), experts, -1), r)
            logits = (wide.view(*a.shape[:-1], experts, -1) * q).sum(-1)
            return torch.sigmoid(logits if bias is None else logits + bias)

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d], normed -> [B, T, d]."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        a = F.silu(gate) * up
        s = self.scores(x, a)
        carry.shared[SCORES + self.place] = s
        weights = self.settings.scale * s
        if "masked_swiglu" in self.kernels:
            flat = (tensor.flatten(0, 1) for tensor in (gate, up, weights))
            weighed = self.kernels["masked_swiglu"](*flat).view(a.shape)
        else:
            weighed = (a.view(*a.shape[:-1], self.settings.experts, -1) * weights.to(a.dtype)[..., None]).view(a.shape)
        y: torch.Tensor = self.down_proj(weighed)
        return y


class FinedeepFFN(nn.Module):
    """M sub-layers, each reading the normed stream that those before it have changed; delta is the sum of updates."""

    def __init__(self, config: Config, layer: int, settings: Settings) -> None:
        super().__init__()
        self.sub = nn.ModuleList(
            SubLayer(config, settings, number, f"{layer}.{number}") for number in range(settings.sublayers)
        )
        self.additions, self.residual_scale = settings.sublayers, config.residual_scale
        self.blend: torch.Tensor | None = None
        """t of the ramp, a scalar, while one runs (objective.py): 0 all sub-layers read the layer's input, as parts of
        one dense layer; 1 Finedeep. None: 1."""

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream -> delta [B, T, d]."""
        delta: torch.Tensor = self.sub[0](x, carry)
        for sub in self.sub[1:]:
            seen = delta if self.blend is None else (self.blend * delta).to(delta.dtype)
            assert isinstance(sub, SubLayer)
            assert sub.norm is not None
            delta = delta + sub(sub.norm(added(h, seen, self.residual_scale)), carry)
        return delta


class Finedeep:
    """The change that an entry {"name": "finedeep", ...} asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    serving = """Serving engines without remote code: none knows gates on blocks of a dense layer. vLLM's Transformers
  backend may run the code in this directory: untested. Tensor parallelism must cut whole experts."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers are Finedeep's in the layers of the settings."""
        before = parts.make_ffn

        def make_ffn(config: Config, layer: int) -> nn.Module:
            read = read_settings(settings, config)
            return FinedeepFFN(config, layer, read) if layer in read.layers else before(config, layer)

        return replace(parts, make_ffn=make_ffn)
