"""Rivals of CartesianMoE as feed-forward parts of equal size: at N = 16 17 D of width in all and 3 D in a token.

Exported with checkpoints: imports torch and core/model only. D is the dense width, N the experts, S a shared expert:

    share   N of D, the best 2; c_0 routed + c_1 S, S of D, c = softmax(C x + b)
    top3    N of (N + 1) / N D, the best 3; no shared expert
    hash    no router: a fixed table gives each id a score for each expert, the same in all layers; then as share
    fine    2 N of D / 2, the best 4; S the mean of two of D / 2, whose widths add up to D
    topp    N of D, as many as hold a probability of 0.4; then as share
    deep    two sub-layers as CartesianMoE has them, but both take the first one's choice: what remains of the gain
            when the product of choices is taken away (ours)
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
from llmtool.core.model.experts import (
    Choice,
    Coefficient,
    Experts,
    among_others,
    best,
    logits_of,
    record,
    route,
    share_out,
)
from llmtool.core.model.ffn import SwiGLU, weight_of
from llmtool.core.model.norm import RMSNorm

NAME = "cartesian_rival"
KINDS = ("share", "top3", "hash", "fine", "topp", "deep")
MASS = 0.4
"""Probability that the experts of `topp` hold together, at the least."""
TABLE_SEED = 2024


@dataclass(frozen=True)
class Settings:
    """The method's entry in config.json, checked."""

    layers: tuple[int, ...]
    kind: str
    experts: int
    """N; `fine` has twice as many, half as wide."""
    skip: int = 0
    """Leave out each token's best experts, so many. For evaluation."""

    @property
    def routed(self) -> int:
        """Experts of a sub-layer."""
        return 2 * self.experts if self.kind == "fine" else self.experts

    @property
    def top_k(self) -> int:
        """Experts that a token meets; of `topp`, at most."""
        return {"top3": 3, "fine": 4, "topp": self.experts}.get(self.kind, 2)

    def inner(self, width: int) -> int:
        """Width of a routed expert, `width` being the dense one."""
        if self.kind == "top3":
            return width * (self.experts + 1) // self.experts
        return width // 2 if self.kind in ("fine", "deep") else width


def read_settings(raw: Mapping[str, Any], config: Config) -> Settings:
    """Settings of a method entry; ConfigError names the field that is wrong."""
    entry = Entry(raw, config, Settings.__dataclass_fields__)
    entry.plain_block()
    read = Settings(entry.layers(), entry.word("kind", "share", KINDS), entry.count("experts", least=4))
    width = config.intermediate_size
    if read.kind == "top3" and width % read.experts:
        raise entry.error(f"experts {read.experts} do not divide intermediate_size {width}")
    if read.kind in ("fine", "deep") and width % 2:
        raise entry.error(f"intermediate_size {width} is odd: its halves are no whole numbers")
    return replace(read, skip=entry.count("skip", 0, least=0, most=read.routed - min(read.top_k, read.routed - 1)))


def top_p(x: torch.Tensor, weight: torch.Tensor, mass: float, skip: int = 0) -> Choice:
    """As many of the likeliest experts as hold `mass` together, the last one included; weights made to sum to 1."""
    logits = logits_of(x, weight)
    scores = logits.softmax(-1)
    values, chosen = best(scores, scores.shape[-1])
    weights = values
    if skip:
        weights, chosen = (found[:, skip:] for found in among_others(logits, skip))
        values = scores.gather(-1, chosen)
    kept = values.cumsum(-1) - values < mass
    return Choice(scores, chosen, share_out(weights * kept), kept)


class SharedExperts(nn.Module):
    """c_0 routed + c_1 S(x): S the mean of some dense experts, c as CartesianMoE has it."""

    def __init__(self, config: Config, layer: int, number: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(SwiGLU(replace(config, intermediate_size=inner), layer) for _ in range(number))
        self.coefficient = Coefficient(config.hidden_size)

    def forward(self, routed: torch.Tensor, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """routed, x and h [B, T, d] -> [B, T, d]."""
        c = self.coefficient(x)
        shared = sum(expert(x, h, carry) for expert in self.dense) / len(self.dense)
        mixed: torch.Tensor = (c[..., :1] * routed + c[..., 1:] * shared).to(routed.dtype)
        return mixed


class Rival(nn.Module):
    """The part of every kind but `deep`: one routed sub-layer."""

    def __init__(self, config: Config, layer: int, settings: Settings) -> None:
        super().__init__()
        hidden, width = config.hidden_size, config.intermediate_size
        self.experts = Experts(settings.routed, hidden, settings.inner(width), settings.top_k)
        if settings.kind == "hash":
            generator = torch.Generator().manual_seed(TABLE_SEED)
            table = torch.randn(config.vocab_size, settings.experts, generator=generator, device="cpu")
            # float32 bit by bit in whole numbers, which no change of element type rounds: in bf16 one id in 260 of
            # 32,000 would have other experts.
            self.register_buffer("table", table.softmax(-1).view(torch.int32))
            self.table: torch.Tensor
        else:
            self.router = nn.Linear(hidden, settings.routed, bias=False)
        if settings.kind != "top3":
            number = 2 if settings.kind == "fine" else 1
            self.shared = SharedExperts(config, layer, number, width // number)
        self.layer, self.settings = layer, settings

    def fixed_scores(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [N] -> the table's scores of each expert [N, E], float32; older checkpoints hold it as numbers."""
        rows = self.table[ids]
        return rows.float() if rows.is_floating_point() else rows.view(torch.float32)

    def choose(self, flat: torch.Tensor, ids: torch.Tensor | None) -> Choice:
        """flat [N, d], ids [N] -> which experts, with which weights."""
        own = self.settings
        if own.kind == "topp":
            return top_p(flat, weight_of(self.router), MASS, own.skip)
        if own.kind != "hash":
            return route(flat, weight_of(self.router), own.top_k, skip=own.skip)
        if ids is None:
            raise ValueError("this model routes by token ids: give input_ids, not inputs_embeds")
        scores = self.fixed_scores(ids.flatten())
        values, chosen = best(scores, own.top_k, own.skip)
        return Choice(scores, chosen, share_out(values))

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream -> delta [B, T, d]."""
        flat = x.flatten(0, 1)
        choice = self.choose(flat, carry.ids)
        hashed = self.settings.kind == "hash"
        free = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device) if hashed else None
        record(carry, str(self.layer), choice, x.shape, free)
        routed: torch.Tensor = self.experts(flat, choice).view(x.shape)
        if self.settings.kind == "top3":
            return routed
        mixed: torch.Tensor = self.shared(routed, x, h, carry)
        return mixed


class DeepShare(nn.Module):
    """Two sub-layers of half the width, the second behind its own norm; both take the first one's choice."""

    additions = 2
    """To the residual stream; core.model.new divides new maps into it by the root of their number."""

    def __init__(self, config: Config, layer: int, settings: Settings) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, settings.inner(config.intermediate_size)
        self.router = nn.Linear(hidden, settings.experts, bias=False)
        self.experts_a = Experts(settings.experts, hidden, inner, settings.top_k)
        self.experts_b = Experts(settings.experts, hidden, inner, settings.top_k)
        self.shared_a = SharedExperts(config, layer, 1, inner)
        self.shared_b = SharedExperts(config, layer, 1, inner)
        self.norm = RMSNorm(hidden, config.rms_norm_eps)
        self.residual_scale = config.residual_scale
        self.layer, self.settings = layer, settings

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream -> delta [B, T, d]."""
        own = self.settings
        choice = route(x.flatten(0, 1), weight_of(self.router), own.top_k, skip=own.skip)
        record(carry, str(self.layer), choice, x.shape)
        a = self.shared_a(self.experts_a(x.flatten(0, 1), choice).view(x.shape), x, h, carry)
        stream = added(h, a, self.residual_scale)  # as the block will add it
        y = self.norm(stream)
        b = self.shared_b(self.experts_b(y.flatten(0, 1), choice).view(x.shape), y, stream, carry)
        delta: torch.Tensor = a + b
        return delta


class CartesianRival:
    """The change that an entry {"name": "cartesian_rival", "kind": ..., ...} asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {"skip": count}
    """Settings that may be given anew when a checkpoint is loaded, and what reads them."""
    serving = """Serving engines without remote code: none has a shared expert mixed by a softmax, or routes by a table
  of scores. A baseline for experiments."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers are the rival's in the layers of the settings."""
        before = parts.make_ffn

        def make_ffn(config: Config, layer: int) -> nn.Module:
            read = read_settings(settings, config)
            if layer not in read.layers:
                return before(config, layer)
            return DeepShare(config, layer, read) if read.kind == "deep" else Rival(config, layer, read)

        return replace(parts, make_ffn=make_ffn)
