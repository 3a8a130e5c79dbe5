"""w_block silu(gate) up: the intermediate activations of a DSMoE layer in its masked-dense form."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation


def masked_swiglu(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """gate, up [N, I]; weights [N, n], one for each of n groups of I / n channels -> [N, I]."""
    a = F.silu(gate) * up
    blocks = a.view(*a.shape[:-1], weights.shape[-1], -1) * weights.to(a.dtype)[..., None]
    return blocks.view(a.shape)
