"""P V, literally: values repeated for the query heads that share them, maps gathered for the heads that read them."""

import torch


def shared_softmax_attention(p: torch.Tensor, v: torch.Tensor, heads: torch.Tensor | None = None) -> torch.Tensor:
    """p [B, H, 1, S], v [B, key-value heads, S, D] -> [B, H, 1, D]; v of several layers: [L, ...] -> [L, B, H, 1, D].

    The layers of a group weigh with the same p. heads [H], int32: the head of p that each head weighs with; else its
    own.
    """
    if heads is not None:
        p = p[:, heads.long()]
    return (p @ v.repeat_interleave(p.shape[1] // v.shape[-3], -3)).to(v.dtype)
