"""What else computes RMSNorm, called as the reference is."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation


def torch_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """torch's own."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def liger_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Liger-Kernel, with the families' rounding."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    y: torch.Tensor = LigerRMSNormFunction.apply(x, weight, eps, 0.0, "llama", False)
    return y
