"""What else computes the first half of experts, called as the reference is."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.kernels.grouped_gemm.rivals import torch_grouped_mm


def torch_grouped(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """torch's own grouped product, twice, bfloat16."""
    return F.silu(torch_grouped_mm(x, gate, ends)) * torch_grouped_mm(x, up, ends)


def unfused(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Our grouped product twice, and our SwiGLU: what fusing them saves."""
    from llmtool.core.kernels.grouped_gemm.triton import grouped_gemm
    from llmtool.core.kernels.swiglu.triton import swiglu

    return swiglu(grouped_gemm(x, gate, ends), grouped_gemm(x, up, ends))
