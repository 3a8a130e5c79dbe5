"""MaskMoE's feed-forward part: a router that sees, for each token id, only the experts that a fixed table shows it.

Exported with checkpoints: imports torch and core/model only. The table is a buffer of the layer, a bit an expert:
`mask` uint8 [vocabulary, ceil(E / 8)], bit e % 8 of byte e // 8 for expert e. One expert visible is a hash layer, all
are plain top-k routing, and top_k for every id is DeepSeek-V4's hash_moe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Parts
from llmtool.core.model.entry import Entry, count
from llmtool.core.model.experts import Choice, Experts, among_others, best, logits_of, record, share_out
from llmtool.core.model.ffn import SwiGLU, weight_of

NAME = "mask_moe"
MOST = 256
"""Experts: a table of more would be larger than what it routes to in small models, and nobody has tried."""


@dataclass(frozen=True)
class Settings:
    """The method's entry in config.json, checked."""

    layers: tuple[int, ...]
    experts: int
    top_k: int = 1
    normalise: bool = True
    """Weights sum to 1; a single one is then 1 with the gradient of log p. Off: the router's probabilities (Switch)."""
    shared: bool = False
    """A dense expert of the same width beside the chosen ones, added as it is."""
    skip: int = 0
    """Leave out each token's best experts, so many, where more are visible. For evaluation."""


def read_settings(raw: Mapping[str, Any], config: Config) -> Settings:
    """Settings of a method entry; ConfigError names the field that is wrong."""
    entry = Entry(raw, config, Settings.__dataclass_fields__)
    entry.plain_block()
    experts = entry.count("experts", most=MOST)
    return Settings(
        entry.layers(), experts, entry.count("top_k", 1, most=experts), entry.flag("normalise", True),
        entry.flag("shared", False), entry.count("skip", 0, least=0, most=experts - 1),
    )  # fmt: skip


def unpack(rows: torch.Tensor, experts: int) -> torch.Tensor:
    """Rows of a table uint8 [..., bytes] -> bool [..., E]."""
    bits = rows[..., None] >> torch.arange(8, dtype=torch.uint8, device=rows.device) & 1
    return bits.flatten(-2)[..., :experts].bool()


class MaskFFN(nn.Module):
    """sum_j w_j E_j(x) over the best min(k, V) of the V experts that the token's id shows."""

    def __init__(self, config: Config, layer: int, settings: Settings) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.router = nn.Linear(hidden, settings.experts, bias=False)
        self.experts = Experts(settings.experts, hidden, inner, settings.top_k)
        if settings.shared:
            self.shared = SwiGLU(config, layer)
        # Until a table comes, all experts are visible: plain routing, and no row that shows none.
        table = torch.full((config.vocab_size, -(-settings.experts // 8)), 255, dtype=torch.uint8)
        if settings.experts % 8:
            table[:, -1] = (1 << settings.experts % 8) - 1
        self.register_buffer("mask", table)
        self.mask: torch.Tensor
        self.layer, self.settings = layer, settings

    def route(self, x: torch.Tensor, ids: torch.Tensor) -> Choice:
        """x [N, d], ids [N] -> which visible experts, with which weights; a masked one is never computed."""
        own = self.settings
        visible = unpack(self.mask[ids], own.experts)
        logits = logits_of(x, weight_of(self.router), visible)
        scores = logits.softmax(-1)
        seen = visible.sum(-1, keepdim=True)
        # Of fewer than `skip` + 1 visible ones none can be left out: the last stays.
        first = (seen - 1).clamp(max=own.skip)
        if own.skip:
            most = own.top_k + own.skip
            values, chosen = (found[:, :most] for found in among_others(logits, first))
            if not own.normalise:
                values = scores.gather(-1, chosen)
        else:
            # -1: a masked expert stands behind a visible one whose probability is too small for its type.
            values, chosen = best(scores.masked_fill(~visible, -1.0), own.top_k)
        place = torch.arange(values.shape[1], device=x.device)
        kept = (place >= first) & (place < seen) & (place < first + own.top_k)
        values = values.masked_fill(~kept, 0.0)
        if own.normalise:
            alone = own.top_k == 1
            values = share_out(values.sum(-1, keepdim=True)) * kept if alone else share_out(values)
        return Choice(scores, chosen, values, None if own.top_k == 1 and not own.skip else kept)

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the stream (for the shared expert only) -> delta [B, T, d]."""
        ids = carry.ids
        if ids is None:
            raise ValueError("this model routes by token ids: give input_ids, not inputs_embeds")
        if ids.shape != x.shape[:2]:
            raise ValueError(f"ids of shape {list(ids.shape)} for states of {list(x.shape[:2])}: every token needs one")
        flat = x.flatten(0, 1)
        choice = self.route(flat, ids.flatten())
        free = unpack(self.mask[ids], self.settings.experts).sum(-1) > 1
        record(carry, str(self.layer), choice, x.shape, free)
        y: torch.Tensor = self.experts(flat, choice).view(x.shape)
        return y + self.shared(x, h, carry) if self.settings.shared else y


class MaskMoE:
    """The change that an entry {"name": "mask_moe", ...} asks for."""

    settable: ClassVar[dict[str, Callable[[Any], Any]]] = {"skip": count}
    """Settings that may be given anew when a checkpoint is loaded, and what reads them."""
    vocabulary_tables = ("mlp.mask",)
    """Tensors of a layer with a row for each token id; a new id takes that of its first piece."""
    serving = """Serving engines without remote code: none routes by a table of token ids but those that know
  DeepSeek-V4's `tid2eid` (`llmtool data token-experts --tid2eid` writes that table). Prompts must be token ids."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """Parts whose feed-forward layers route by token ids in the layers of the settings."""
        before = parts.make_ffn

        def make_ffn(config: Config, layer: int) -> nn.Module:
            read = read_settings(settings, config)
            return MaskFFN(config, layer, read) if layer in read.layers else before(config, layer)

        return replace(parts, make_ffn=make_ffn)
