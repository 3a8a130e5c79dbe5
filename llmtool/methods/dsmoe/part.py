"""DSMoE's feed-forward part: a dense SwiGLU whose blocks of the intermediate dimension are switched by a router.

Exported with checkpoints: imports torch and core/model only. The masked-dense form computes every block and multiplies
the intermediate activations by the blocks' weights; it is exact for training and the fallback for serving. Names are
those of a dense feed-forward layer plus `router`, so that tensor parallelism and quantisation keep working.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts
from llmtool.core.model.ffn import geglu, swiglu

GATES = "dsmoe.gates."
"""carry.shared[GATES + layer]: G(g) [B, T, n] in float32, 0 where an expert is off; objective and reports read it."""

Kernel = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""kernel(x [N, d], gate [I, d], up [I, d], down [d, I], router [n, d], bias [n] or None, tau, scale, unit)
-> (delta [N, d], G(g) [N, n]); for inference (core/kernels/dsmoe_ffn)."""

FORMS, PARTITIONS = ("paper", "unit"), ("contiguous", "importance")


def threshold(text: Any) -> float:
    """tau: 0 <= tau < 1."""
    value = float(text)
    if isinstance(text, bool) or not 0 <= value < 1:
        raise ValueError(f"{text!r} is not a threshold between 0 and 1")
    return value


def flag(text: Any) -> bool:
    """True or False, as JSON or as a word of the command line."""
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if isinstance(text, bool) or str(text).lower() in words:
        return text if isinstance(text, bool) else words[str(text).lower()]
    raise ValueError(f"{text!r} is neither on nor off")


@dataclass(frozen=True)
class Settings:
    """The method's entry in config.json, checked."""

    experts: int
    layers: tuple[int, ...]
    """Layers that are converted, ascending."""
    gate_scale: tuple[float, ...]
    """A constant factor of each of `layers`: 1 / g0 of the exact start, least squares of the analytic one, or 1."""
    tau: float = 0.5
    router_bias: bool = True
    straight_through: bool = True
    """Whether inactive gates get gradients in training (off: an ablation)."""
    # From here on ours, and not the paper's: entries of version 2.
    form: str = "paper"
    """paper: an open block counts g n / #active; unit: it counts 1, whatever its gate and however many are open."""
    partition: str = "contiguous"
    """importance: channels were sorted before the equal cut. Information; the weights are in that order already."""
    always_on: int = 0
    """The first so many blocks have a constant open gate. Information; the routers say it."""
    off_mean: bool = False
    """Whether a closed block adds a constant: its mean output where it was closed on calibration text."""
    refit: bool = False
    """Whether down_proj was fitted anew to the open blocks. Information: open all, and it is not the dense model."""

    @property
    def unit(self) -> bool:
        """Whether open blocks count 1."""
        return self.form == "unit"


NEW = ("form", "partition", "always_on", "off_mean", "refit")
"""Fields of version 2."""
BEYOND = "beyond_paper"
"""What of the entry is ours, in words; for people and model cards, read by nobody."""


def read_settings(raw: Mapping[str, Any], config: Config) -> Settings:
    """Settings of a method entry; ConfigError names the field that is wrong."""
    version = raw.get("version")
    if type(version) is not int or version not in (1, 2):
        raise ConfigError(f"dsmoe: version {version!r} is not supported: only 1 and 2 are")
    known = {"name", "version", *Settings.__dataclass_fields__, BEYOND} - ({*NEW, BEYOND} if version == 1 else set())
    if strange := raw.keys() - known:
        raise ConfigError(f"dsmoe: {min(strange)} is not understood")
    experts, layers, scales = raw.get("experts"), raw.get("layers"), raw.get("gate_scale")
    if type(experts) is not int or experts < 1 or config.intermediate_size % experts:
        raise ConfigError(f"dsmoe: experts {experts!r} do not divide intermediate_size {config.intermediate_size}")
    if (
        not isinstance(layers, list)
        or not all(type(layer) is int and 0 <= layer < config.num_hidden_layers for layer in layers)
        or layers != sorted(set(layers))
    ):
        raise ConfigError(f"dsmoe: layers {layers!r} is not an ascending list of numbers of layers")
    if (
        not isinstance(scales, list)
        or len(scales) != len(layers)
        or not all(isinstance(scale, float | int) and 0 < scale < 1e4 for scale in scales)
    ):
        raise ConfigError("dsmoe: gate_scale is not a positive number for each of layers")
    try:
        optional: dict[str, Any] = {
            name: read(raw[name])
            for name, read in {
                "tau": threshold, "router_bias": flag, "straight_through": flag, "off_mean": flag, "refit": flag,
            }.items()
            if name in raw
        }  # fmt: skip
    except (ValueError, TypeError) as error:
        raise ConfigError(f"dsmoe: {error}") from None
    for name, choices in (("form", FORMS), ("partition", PARTITIONS)):
        optional[name] = raw.get(name, choices[0])
        if optional[name] not in choices:
            raise ConfigError(f"dsmoe: {name} {raw[name]!r} is neither of {', '.join(choices)}")
    optional["always_on"] = first = raw.get("always_on", 0)
    if type(first) is not int or not 0 <= first <= experts:
        raise ConfigError(f"dsmoe: always_on {first!r} is no number of the {experts} blocks")
    if optional["form"] == "unit" and any(scale != 1 for scale in scales):
        raise ConfigError("dsmoe: gate_scale is not 1, and blocks of the unit form count 1")
    if optional.get("off_mean") and optional["form"] != "unit":
        raise ConfigError("dsmoe: off_mean belongs to the unit form")
    return Settings(experts, tuple(layers), tuple(map(float, scales)), **optional)


def masked_swiglu(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """silu(gate) up, each block times its weight: gate, up [..., I], weights [..., n] -> [..., I]."""
    return weigh_blocks(swiglu(gate, up), weights)


def masked_geglu(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The same with gelu."""
    return weigh_blocks(geglu(gate, up), weights)


def weigh_blocks(a: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Each block of a [..., I] times its weight [..., n]."""
    blocks = a.view(*a.shape[:-1], weights.shape[-1], -1) * weights.to(a.dtype)[..., None]
    return blocks.view(a.shape)


class SparseSwiGLU(nn.Module):
    """down(w * silu(gate(x)) * up(x)) with w = scale * n / #active * G(sigmoid(router(x))) for each of n blocks.

    In the unit form w is 1 where the gate is open, else 0, and (1 - w) off_mean is added where there is an off_mean.

    Biases of gate and up belong to the blocks; a bias of down is added whatever is active.
    """

    def __init__(
        self, config: Config, layer: int, settings: Settings, kernels: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.router = nn.Linear(hidden, settings.experts, bias=settings.router_bias)
        self.off_mean = nn.Parameter(torch.zeros(settings.experts, hidden)) if settings.off_mean else None
        self.layer, self.settings = layer, settings
        self.scale = settings.gate_scale[settings.layers.index(layer)]
        silu = config.activation == "silu"  # which all kernels compute
        self.kernel: Kernel | None = (kernels or {}).get("dsmoe_ffn") if silu and not bias else None
        self.product = (kernels or {}).get("masked_swiglu", masked_swiglu) if silu else masked_geglu

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, T, d] -> G(g) and the blocks' weights w, [B, T, n] each, in float32 (float64 for a float64 model).

        In training w carries the straight-through gradient; n / #active is a constant in any case.
        """
        precise = torch.promote_types(x.dtype, torch.float32)
        bias = None if self.router.bias is None else self.router.bias.to(precise)
        with torch.autocast(x.device.type, enabled=False):  # bf16 training would round the gates
            g = torch.sigmoid(F.linear(x.to(precise), self.router.weight.to(precise), bias))
        active = g > self.settings.tau
        gates = torch.where(active, g, torch.zeros_like(g))
        learns = self.training and self.settings.straight_through
        if self.settings.unit:
            hard = active.to(precise)
            return gates, hard + (g - g.detach()) if learns else hard
        through = gates.detach() + g - g.detach() if learns else gates
        count = active.sum(-1, keepdim=True).clamp(min=1)
        return gates, through * self.scale * (self.settings.experts / count.to(precise))

    def used(self, carry: Carry) -> torch.Tensor:
        """Which blocks the tokens of this pass took, bool [B, T, n]; `llmtool bench decode` bounds time by it."""
        return carry.shared[f"{GATES}{self.layer}"] > 0

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream (not used here) -> delta [B, T, d]."""
        # A kernel reads weights; a projection that another method has wrapped (LoRA) is more than its weight.
        plain = all(type(module) is nn.Linear for module in (self.gate_proj, self.up_proj, self.down_proj))
        if plain and self.kernel is not None and not self.training and not torch.is_grad_enabled():
            computed, gates = self.kernel(
                x.flatten(0, 1), self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight, self.router.weight,
                self.router.bias, self.settings.tau, self.scale, self.settings.unit,
            )  # fmt: skip
            carry.shared[f"{GATES}{self.layer}"] = gates.view(*x.shape[:2], -1)
            return self.compensated(computed, (gates > 0).to(gates.dtype)).view(x.shape)
        gates, weights = self.route(x)
        carry.shared[f"{GATES}{self.layer}"] = gates
        delta: torch.Tensor = self.down_proj(self.product(self.gate_proj(x), self.up_proj(x), weights))
        return self.compensated(delta, weights)

    def compensated(self, delta: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """delta [.., d] with what closed blocks gave on average; weights [.., n] of the unit form."""
        if self.off_mean is None:
            return delta
        return delta + F.linear((1 - weights).to(delta.dtype), self.off_mean.T.to(delta.dtype))


class DSMoE:
    """The change that a checkpoint's entry `{"name": "dsmoe", ...}` asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {"tau": threshold, "straight-through": flag}
    """Settings that may be given anew when a checkpoint is loaded, and what reads them."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers are sparse in the layers of the settings."""
        before, kernels = parts.make_ffn, parts.kernels

        def make_ffn(config: Config, layer: int) -> nn.Module:
            read = read_settings(settings, config)
            return SparseSwiGLU(config, layer, read, kernels) if layer in read.layers else before(config, layer)

        return replace(parts, make_ffn=make_ffn)
