"""Which channels of a feed-forward layer stand together in a block.

The paper cuts contiguously, but the channels of a pretrained layer have no order: every block then holds 1/n of the
output and none can be left out. Sorted by importance, block 0 holds what every token needs and the last block what few
need. Block i stays the i-th contiguous slice, so nothing else changes.

    a_t = silu(G x_t) * (U x_t)      c_tj = |a_tj| ||D_:j||      p_j = mean_t c_tj^2 / sum_k c_tk^2

Each token counts once: a massive token (an attention sink, whose output is a thousand times as large) no more than any.
"""

import torch

CHUNK = 1024
"""Tokens whose contributions are in memory in float64 at once."""


def importance(a: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """a [N, I] the intermediate activations, down [d, I] -> p [I] in float64, of sum 1 (0 for a token of zeros)."""
    size = down.double().square().sum(0)
    total = torch.zeros(a.shape[1], dtype=torch.float64)
    for chunk in torch.split(a, CHUNK):
        c = chunk.double().square() * size
        total += (c / c.sum(1, keepdim=True).clamp(min=1e-300)).sum(0)
    return total / max(1, len(a))


def order(p: torch.Tensor) -> torch.Tensor:
    """p [I] -> channels, the most important first, ties by index."""
    return p.argsort(descending=True, stable=True)


def reorder(name: str, tensor: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """One tensor of a feed-forward layer, by its short name, with its channels in another order."""
    if name in ("gate_proj.weight", "up_proj.weight", "gate_proj.bias", "up_proj.bias"):
        return tensor[permutation]
    return tensor[:, permutation] if name == "down_proj.weight" else tensor
