"""The base attention part: grouped-query attention with rotary embeddings, biases, qk-norm and a sliding window."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.norm import RMSNorm
from llmtool.core.model.rope import rotate_pair

Attend = Callable[..., torch.Tensor]
"""A kernel, chosen by the builder and injected: attend(q [B, H, T, D], k and v [B, key-value heads, S, D], mask as in
Carry.masks, **Carry.options) -> [B, H, T, D]."""


def scaled_dot_product(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """torch's own kernel. One token against a cache: the query heads of a group become rows, and no key is repeated."""
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    if length == 1 and groups > 1:
        rows = q.reshape(q.shape[0], k.shape[1], groups, q.shape[3])
        return F.scaled_dot_product_attention(rows, k, v, attn_mask=mask).view(q.shape)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None and length > 1, enable_gqa=groups > 1
    )


class Attention(nn.Module):
    """o_proj(softmax(q k^T / sqrt(D)) v), with as many key-value heads as the config says."""

    op = "rope"
    """The kernel that may take the place of `compute`; see decoder.Parts.kernels."""

    def __init__(self, config: Config, layer: int, attend: Attend = scaled_dot_product) -> None:
        super().__init__()
        self.layer, self.window, self.head_dim = layer, config.windows[layer], config.head_dim
        self.attend = attend
        self.compute = rotate_pair
        hidden = config.hidden_size
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(hidden, inner, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, hidden, bias=config.o_bias)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()

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
        split = (*x.shape[:2], -1, self.head_dim)
        q = self.q_norm(self.q_proj(x).view(split)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(split)).transpose(1, 2)
        q, k = self.compute(q, k, *carry.rope)
        v = self.v_proj(x).view(split).transpose(1, 2)
        mask = carry.masks[self.window]
        if carry.cache is not None:
            held, v = carry.cache.update(self.layer, k, v)
            assert held is not None
            k = held
            if mask is not None and k.shape[2] < mask.shape[-1]:  # a cache that dropped what no window reaches
                mask = mask[..., -k.shape[2] :]
        return q, k, v, mask
