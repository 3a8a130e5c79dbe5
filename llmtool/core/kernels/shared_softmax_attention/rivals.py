"""What else computes it, called as the reference is."""

import torch


def grouped_matmul(p: torch.Tensor, v: torch.Tensor, heads: torch.Tensor | None = None) -> torch.Tensor:
    """torch.matmul, the query heads of a key-value head as rows: no value is repeated (methods/uniattn/part.py)."""
    if heads is not None:
        p = p.index_select(1, heads)
    batch, count, _, places = p.shape
    rows = p.reshape(batch, v.shape[-3], count // v.shape[-3], places)
    return (rows @ v).reshape(*v.shape[:-4], batch, count, 1, v.shape[-1])
