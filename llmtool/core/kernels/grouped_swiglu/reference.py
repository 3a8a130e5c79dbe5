"""A loop over the groups."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation


def grouped_swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """silu(x gate[g]^T) * (x up[g]^T) for the rows of each group g.

    x [rows, width], rows of a group together; gate and up [groups, inner, width]; ends [groups], int32, as
    grouped_gemm's -> [rows, inner].
    """
    limits = [0, *ends.tolist()]
    parts = [x[limits[group] : limits[group + 1]] for group in range(len(gate))]
    return torch.cat([F.silu(F.linear(x, g)) * F.linear(x, u) for x, g, u in zip(parts, gate, up, strict=True)])
