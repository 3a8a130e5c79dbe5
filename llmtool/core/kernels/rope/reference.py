"""Rotary position embeddings as the families compute them: pairs (i, i + D / 2), one set of tables for each group."""

import torch


def rope(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q [B, H, T, D], k [B, K, T, D], tables [1 or B, 1 or K, T, D / 2] -> both turned."""
    return turn(q, cos, sin), turn(k, cos, sin)


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin); tables of several heads serve H / heads neighbours each."""
    if cos.shape[1] > 1:
        cos, sin = (table.repeat_interleave(x.shape[1] // table.shape[1], 1) for table in (cos, sin))
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
