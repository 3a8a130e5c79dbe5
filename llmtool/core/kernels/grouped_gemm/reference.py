"""A loop over the groups."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation


def grouped_gemm(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """x [rows, width], rows of a group together; weight [groups, out, width]; ends [groups], int32 -> [rows, out].

    Rows ends[g - 1] to ends[g] (0 to ends[0]) are multiplied by weight[g], transposed as a linear layer's; the last
    end is the number of rows. A group may be empty.
    """
    limits = [0, *ends.tolist()]
    parts = [F.linear(x[limits[group] : limits[group + 1]], matrix) for group, matrix in enumerate(weight)]
    return torch.cat(parts)
