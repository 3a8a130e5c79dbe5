"""CartesianMoE's layer, literally: one token, one expert at a time.

Symbols are those of docs/methods/cartesian_moe.md, read from the authors' released model: W the router, E the routed
experts, C and c the coefficient's map and bias, S the shared expert.
"""

from dataclasses import dataclass

import torch

from llmtool.core.model.experts_reference import expert, largest_first, softmax


@dataclass(frozen=True)
class SubLayer:
    """router [N, d]; gate, up [N, D/g, d], down [N, d, D/g]; shared: (gate, up, down) or None; C [2, d], c [2]."""

    router: torch.Tensor
    experts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    shared: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    coefficient: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, k: int, normalise: bool) -> torch.Tensor:
        """x [d], normed -> what is added to the stream [d]."""
        p = softmax([float(row @ x) for row in self.router])
        chosen = largest_first(p)[:k]
        total = sum(p[e] for e in chosen) if normalise else 1.0
        r = torch.zeros_like(x)
        for e in chosen:
            r = r + p[e] / total * expert(self.experts, e, x)
        if self.shared is None:
            return r
        assert self.coefficient is not None
        assert self.bias is not None
        c = softmax([float(row @ x + b) for row, b in zip(self.coefficient, self.bias, strict=True)])
        return c[0] * r + c[1] * expert([stack[None] for stack in self.shared], 0, x)


def norm(h: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm of one token [d]."""
    return h / torch.sqrt((h * h).mean() + eps) * weight


def forward(
    a: SubLayer,
    b: SubLayer,
    norm_a: torch.Tensor,
    norm_b: torch.Tensor,
    eps: float,
    h: torch.Tensor,
    k: int,
    normalise: bool = True,
    m: float = 1.0,
) -> torch.Tensor:
    """h [N, d] the residual stream -> the stream behind the layer [N, d]; m: Granite's residual multiplier."""
    rows = []
    for stream in h:
        stream = stream + m * a(norm(stream, norm_a, eps), k, normalise)
        stream = stream + m * b(norm(stream, norm_b, eps), k, normalise)
        rows.append(stream)
    return torch.stack(rows)
