"""What else computes the layer, called as the reference is."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.kernels.dsmoe_ffn.reference import Result, masked, route

__all__ = ["grouped_mm", "masked"]


def grouped_mm(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """torch's grouped product over gathered rows; nonzero waits for the device, so no CUDA graph can hold it."""
    gates, weights = route(x, router, bias, tau, scale, unit)
    experts, width = router.shape[0], x.shape[1]
    expert, token = (weights.T > 0).nonzero(as_tuple=True)
    ends = (weights > 0).sum(0).cumsum(0).to(torch.int32)
    rows = x[token]
    g = torch._grouped_mm(rows, gate.view(experts, -1, width).transpose(1, 2), ends)
    u = torch._grouped_mm(rows, up.view(experts, -1, width).transpose(1, 2), ends)
    a = F.silu(g) * u * weights[token, expert, None].to(x.dtype)
    o = torch._grouped_mm(a, down.view(width, experts, -1).permute(1, 2, 0), ends)
    return torch.zeros_like(x).index_add_(0, token, o), gates
