"""Cross-layer attention (Brandon et al., arXiv 2405.12981): followers use their leader's keys and values.

config.json: {"name": "cla", "version": 1, "groups": [[leader, follower, ...], ...]}. A follower keeps q_proj and
o_proj, has no k_proj, v_proj and nothing in the cache: it saves twice as much as UniAttn's. Exported with checkpoints.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmtool.core.model.attention import Attention, attend_of, heads_of, qk_norm
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts
from llmtool.core.model.rope import rotate

NAME, VERSION = "cla", 1


class Leader(Attention):
    """Attention that leaves its keys and values in carry.shared."""

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] -> delta [B, T, d]."""
        q, k, v, mask = self.project(x, carry)
        carry.shared[f"{NAME}.{self.layer}.k"], carry.shared[f"{NAME}.{self.layer}.v"] = k, v
        y = self.attend(q, k, v, mask, **carry.options)
        delta: torch.Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return delta


class Follower(nn.Module):
    """Queries of its own on the leader's keys and values."""

    def __init__(self, config: Config, layer: int, leader: int) -> None:
        super().__init__()
        self.layer, self.leader, self.window, self.head_dim = layer, leader, config.windows[leader], config.head_dim
        self.attend: Callable[..., torch.Tensor] = attend_of(config)
        inner = config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=config.o_bias)
        self.q_norm, self.wide = qk_norm(config, inner), config.qk_norm == "width"
        self.rope = config.rope_of(leader)
        if self.rope is not None and (self.rope.partial != 1 or config.neighbours or self.rope.llama_4_scaling_beta):
            raise ConfigError(f"cla: {config.family} turns its queries in another way than Llama: not supported")

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] -> delta [B, T, d]."""
        q = heads_of(self.q_proj(x), self.q_norm, self.head_dim, wide=self.wide)
        q = q if self.rope is None else rotate(q, carry.ropes[self.rope])
        k, v = carry.shared[f"{NAME}.{self.leader}.k"], carry.shared[f"{NAME}.{self.leader}.v"]
        mask = carry.masks[self.window]
        if mask is not None and k.shape[2] < mask.shape[-1]:
            mask = mask[..., -k.shape[2] :]
        delta: torch.Tensor = self.o_proj(self.attend(q, k, v, mask, **carry.options).transpose(1, 2).flatten(2))
        return delta


class CrossLayer:
    """change(parts, settings) -> parts with leaders and followers. The groups were checked by the converter."""

    serving = "vLLM: not tried. A follower has no keys and values of its own, which its cache does not plan for."

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """settings: the method's entry in config.json."""
        if settings.get("version") != VERSION:
            raise ConfigError(f"cla: version {settings.get('version')!r} is not supported: only {VERSION} is")
        before, groups = parts.make_attention, settings["groups"]

        def make(config: Config, layer: int) -> nn.Module:
            group = next((group for group in groups if layer in group), None)
            if group is None:
                return before(config, layer)
            return Leader(config, layer) if layer == group[0] else Follower(config, layer, group[0])

        return replace(parts, make_attention=make)
