"""The gated unit of every family here, but for its matrices."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, element by element; silu(x) = x / (1 + exp(-x))."""
    return F.silu(gate) * up
