"""DSMoE's feed-forward layer, literally: one token and one expert at a time, and its gradients written out.

Symbols are the paper's (arXiv 2502.12455, section 3): Y the router, g = sigmoid(x Y + b), tau the threshold,
G(g) = g if g > tau else 0, o_i the output of expert i, S = sg(G(g)) + g - sg(g) the straight-through gate. Beyond the
paper: the bias b and the constant `scale`, which make an exact start possible, and the unit form, in which an open
block counts 1 and a closed one its mean (docs/methods/dsmoe.md).
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Weights:
    """One layer. gate, up [I, d]; down [d, I]; router [n, d] = Y transposed; bias [n] or None."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    router: torch.Tensor
    bias: torch.Tensor | None = None

    @property
    def experts(self) -> int:
        """n."""
        return self.router.shape[0]

    def expert(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """o_i [d] of one token x [d]: SwiGLU with the i-th group of columns of gate and up and of rows of down."""
        size = self.gate.shape[0] // self.experts
        group = slice(i * size, (i + 1) * size)
        a = torch.nn.functional.silu(self.gate[group] @ x) * (self.up[group] @ x)
        return self.down[:, group] @ a


def gate(w: Weights, x: torch.Tensor) -> list[float]:
    """g of one token x [d]."""
    logits = [float(row @ x) + (float(w.bias[i]) if w.bias is not None else 0.0) for i, row in enumerate(w.router)]
    return [1 / (1 + math.exp(-z)) if z > -700 else math.exp(max(z, -2000)) for z in logits]  # exp(700) is the last


def forward(w: Weights, x: torch.Tensor, tau: float, scale: float = 1.0) -> torch.Tensor:
    """x [N, d] -> h [N, d] = scale * n / #active * sum_i o_i G(g_i); 0 where no expert is active (the paper: 0/0)."""
    rows = []
    for token in x:
        g = gate(w, token)
        active = [i for i in range(w.experts) if g[i] > tau]
        h = torch.zeros_like(token)
        for i in active:
            h = h + w.expert(i, token) * g[i]
        rows.append(h * (scale * w.experts / max(1, len(active))))
    return torch.stack(rows)


def forward_unit(w: Weights, x: torch.Tensor, tau: float, off_mean: torch.Tensor | None = None) -> torch.Tensor:
    """x [N, d], off_mean [n, d] -> h [N, d] = sum of o_i where g_i > tau, and of off_mean_i where not."""
    rows = []
    for token in x:
        h = torch.zeros_like(token)
        for i, value in enumerate(gate(w, token)):
            if value > tau:
                h = h + w.expert(i, token)
            elif off_mean is not None:
                h = h + off_mean[i]
        rows.append(h)
    return torch.stack(rows)


def logit_gradient_unit(w: Weights, x: torch.Tensor, dh: torch.Tensor, off_mean: torch.Tensor | None) -> torch.Tensor:
    """dL / d(logit of each gate) [N, n] of the unit form: <o_i - off_mean_i, dL/dh> sigma'(logit_i), open or closed."""
    rows = []
    for token, d in zip(x, dh, strict=True):
        means = torch.zeros(w.experts, len(token), dtype=x.dtype) if off_mean is None else off_mean
        g = gate(w, token)
        rows.append([g[i] * (1 - g[i]) * float((w.expert(i, token) - means[i]) @ d) for i in range(w.experts)])
    return torch.tensor(rows, dtype=x.dtype)


def logit_gradient(
    w: Weights, x: torch.Tensor, dh: torch.Tensor, tau: float, scale: float = 1.0, straight_through: bool = True
) -> torch.Tensor:
    """dL / d(logit of each gate) [N, n] for dL/dh [N, d].

    (n / #active) scale <o_i, dL/dh> sigma'(logit_i): of every expert with the straight-through gate, of the active ones
    without it. n / #active counts as a constant.
    """
    rows = []
    for token, d in zip(x, dh, strict=True):
        g = gate(w, token)
        count = max(1, sum(value > tau for value in g))
        row = []
        for i, value in enumerate(g):
            slope = value * (1 - value) * scale * w.experts / count
            moves = straight_through or value > tau
            row.append(slope * float(w.expert(i, token) @ d) if moves else 0.0)
        rows.append(row)
    return torch.tensor(rows, dtype=x.dtype)


def penalty(gates: list[list[list[float]]], tau: float) -> float:
    """The sparsity loss: mean of G(g) over layers, tokens and experts; gates[layer][token][expert]."""
    values = [g if g > tau else 0.0 for layer in gates for token in layer for g in token]
    return sum(values) / len(values)
