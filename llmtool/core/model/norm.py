"""RMSNorm as the families compute it: in float32 whatever comes in, the weight applied after rounding back."""

import torch
from torch import nn


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [..., size], weight [size] -> as x."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return weight * y.to(x.dtype)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    op = "rms_norm"
    """The kernel that may take the place of `compute`; see decoder.Parts.kernels."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.compute = rms_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., size]."""
        return self.compute(x, self.weight, self.eps)
