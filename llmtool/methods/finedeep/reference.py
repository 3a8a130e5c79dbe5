"""Finedeep's layer, literally: token by token, sub-layer by sub-layer, expert by expert; the score from the output.

Symbols are those of docs/methods/finedeep.md, section "The layer"; what the paper leaves open is decided there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmtool.core.model.experts_reference import expert


@dataclass(frozen=True)
class SubLayer:
    """gate, up [K, n, d], down [K, d, n]; router [K, d]; bias [K]; norm [d]."""

    experts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    router: torch.Tensor
    bias: torch.Tensor
    norm: torch.Tensor


def norm(h: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm of one token [d]."""
    return h / torch.sqrt((h * h).mean() + eps) * weight


def score(kind: str, sub: SubLayer, k: int, x: torch.Tensor, outputs: Sequence[torch.Tensor]) -> float:
    """s_k of one token."""
    if kind == "none":
        return 0.5
    total = torch.stack(list(outputs)).sum(0)
    read = {"output-dot": outputs[k], "output-linear": total, "input": x}[kind]
    return 1 / (1 + math.exp(-float(sub.router[k] @ read + sub.bias[k])))


def forward(
    subs: Sequence[SubLayer],
    h: torch.Tensor,
    eps: float,
    scale: float = 2.0,
    router: str = "output-dot",
    t: float = 1.0,
    m: float = 1.0,
) -> torch.Tensor:
    """h [N, d] the residual stream -> the stream behind the layer [N, d]; t: of the ramp, m: Granite's multiplier."""
    rows = []
    for first in h:
        stream = first
        for sub in subs:
            x = norm(first + t * (stream - first), sub.norm, eps)
            outputs = [expert(sub.experts, k, x) for k in range(len(sub.router))]
            for k, y in enumerate(outputs):
                stream = stream + m * scale * score(router, sub, k, x, outputs) * y
        rows.append(stream)
    return torch.stack(rows)
