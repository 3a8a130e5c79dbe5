"""What else computes SwiGLU, called as the reference is."""

import torch


def liger_swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Liger-Kernel; its backward pass writes into the saved gate and up."""
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    y: torch.Tensor = LigerSiLUMulFunction.apply(gate, up)
    return y
