"""MaskMoE's layer, literally: one token, one expert at a time (docs/methods/mask_moe.md, section "The layer")."""

from collections.abc import Sequence

import torch

from llmtool.core.model.experts_reference import expert, largest_first, softmax


def forward(
    x: torch.Tensor,
    ids: Sequence[int],
    visible: Sequence[Sequence[bool]],
    router: torch.Tensor,
    stacks: Sequence[torch.Tensor],
    k: int,
    normalise: bool = True,
) -> torch.Tensor:
    """x [N, d], ids [N], visible [vocabulary][E], router [E, d], gate, up [E, D, d], down [E, d, D] -> [N, d]."""
    rows = []
    for token, i in zip(x, ids, strict=True):
        s = [float(row @ token) if seen else -float("inf") for row, seen in zip(router, visible[i], strict=True)]
        p = softmax(s)
        chosen = largest_first(p)[: min(k, sum(visible[i]))]
        total = sum(p[e] for e in chosen) if normalise else 1.0
        y = torch.zeros_like(token)
        for e in chosen:
            y = y + p[e] / total * expert(stacks, e, token)
        rows.append(y)
    return torch.stack(rows)
