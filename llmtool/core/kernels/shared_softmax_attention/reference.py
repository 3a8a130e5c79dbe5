"""P V with the identity head mapping, literally: values repeated for the query heads that share them."""

import torch


def shared_softmax_attention(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """p [B, H, 1, S], v [B, heads, S, D] -> [B, H, 1, D]; v of several layers: [L, ...] -> [L, B, H, 1, D].

    The layers of a group weigh with the same p.
    """
    return (p @ v.repeat_interleave(p.shape[1] // v.shape[-3], -3)).to(v.dtype)
