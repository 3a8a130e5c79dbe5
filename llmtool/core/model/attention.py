"""The base attention part: grouped-query attention with rotary embeddings, biases, qk-norm and a sliding window."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.norm import make_norm
from llmtool.core.model.rope import query_growth, rotate_neighbours, rotate_pair

Attend = Callable[..., torch.Tensor]
"""A kernel, chosen by the builder and injected: attend(q [B, H, T, D], k and v [B, key-value heads, S, D], mask as in
Carry.masks, **Carry.options) -> [B, H, T, D]."""


def scaled_dot_product(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float | None = None
) -> torch.Tensor:
    """torch's own kernel; scale None is D^-0.5.

    One token against a cache: the query heads of a group become rows, and no key is repeated.
    """
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    if length == 1 and groups > 1:
        rows = q.reshape(q.shape[0], k.shape[1], groups, q.shape[3])
        return F.scaled_dot_product_attention(rows, k, v, attn_mask=mask, scale=scale).view(q.shape)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None and length > 1, enable_gqa=groups > 1, scale=scale
    )


def capped_dot_product(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float, cap: float
) -> torch.Tensor:
    """softmax(cap tanh(scale q k^T / cap)) v, the softmax in float32 (Gemma-2): no fused kernel of torch has a cap."""
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = capped(q @ k.transpose(2, 3) * scale, cap)
    if mask is None and length > 1:
        mask = torch.ones(length, k.shape[2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def capped(scores: torch.Tensor, cap: float | None) -> torch.Tensor:
    """cap tanh(scores / cap); scores where there is no cap."""
    return scores if cap is None else torch.tanh(scores / cap) * cap


def attend_of(config: Config) -> Attend:
    """torch's attention with the scale and the cap of a config."""
    if config.attention_cap is not None:
        return partial(capped_dot_product, scale=config.scale, cap=config.attention_cap)
    return scaled_dot_product if config.attention_scale is None else partial(scaled_dot_product, scale=config.scale)


class Attention(nn.Module):
    """o_proj(softmax(scale q k^T) v), with as many key-value heads as the config says."""

    op = "rope"
    """The kernel that may take the place of `compute`; see decoder.Parts.kernels."""

    def __init__(self, config: Config, layer: int, attend: Attend | None = None) -> None:
        super().__init__()
        self.layer, self.window, self.head_dim = layer, config.windows[layer], config.head_dim
        self.scale, self.cap = config.scale, config.attention_cap
        self.attend = attend or attend_of(config)
        self.rope = config.rope_of(layer)
        self.compute = rotate_neighbours if config.neighbours else rotate_pair
        self.turned = 0 if self.rope is None else int(config.head_dim * self.rope.partial)
        if config.precise_rope or config.neighbours or self.turned != config.head_dim:
            self.op = ""
        hidden = config.hidden_size
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(hidden, inner, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, hidden, bias=config.o_bias)
        self.q_norm, self.k_norm = qk_norm(config, inner), qk_norm(config, shared)
        self.wide = config.qk_norm == "width"

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d], the normed residual stream -> delta [B, T, d]."""
        q, k, v, mask = self.project(x, carry)
        y = self.attend(q, k, v, mask, **carry.options)
        delta: torch.Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return delta

    def project(
        self, x: torch.Tensor, carry: Carry
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """q [B, H, T, D], k and v [B, key-value heads, S, D] cached ones included, and the mask of these S places."""
        q = heads_of(self.q_proj(x), self.q_norm, self.head_dim, wide=self.wide)
        k = heads_of(self.k_proj(x), self.k_norm, self.head_dim, wide=self.wide)
        q, k = self.turn(q, k, carry)
        v = self.v_proj(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
        mask = carry.masks[self.window]
        if carry.cache is not None:
            held, v = carry.cache.update(self.layer, k, v)
            assert held is not None
            k = held
            if mask is not None and k.shape[2] < mask.shape[-1]:  # a cache that dropped what no window reaches
                mask = mask[..., -k.shape[2] :]
        return q, k, v, mask

    def turn(self, q: torch.Tensor, k: torch.Tensor, carry: Carry) -> tuple[torch.Tensor, torch.Tensor]:
        """q and k [B, heads, T, D] by their positions: none, the first dimensions, or all of them."""
        if self.rope is None:
            return q, k
        tables = carry.ropes[self.rope]
        if self.turned == self.head_dim:
            q, k = self.compute(q, k, *tables)
        else:
            q_turned, k_turned = self.compute(q[..., : self.turned], k[..., : self.turned], *tables)
            q, k = torch.cat((q_turned, q[..., self.turned :]), -1), torch.cat((k_turned, k[..., self.turned :]), -1)
        return (q * query_growth(carry.positions, self.rope, q.dtype) if self.rope.llama_4_scaling_beta else q), k


def qk_norm(config: Config, width: int) -> nn.Module:
    """The norm of a projection of this width, as Config.qk_norm says."""
    if not config.qk_norm:
        return nn.Identity()
    return make_norm(config, width if config.qk_norm == "width" else config.head_dim)


def heads_of(x: torch.Tensor, norm: nn.Module, head_dim: int, *, wide: bool) -> torch.Tensor:
    """A projection [B, T, heads * D] -> [B, heads, T, D], normed as a whole (`wide`) or head by head."""
    split = (*x.shape[:2], -1, head_dim)
    heads: torch.Tensor = norm(x).view(split) if wide else norm(x.view(split))
    return heads.transpose(1, 2)
