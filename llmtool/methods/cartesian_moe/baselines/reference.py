"""The rivals' layers, literally: one token, one expert at a time. Symbols as in rivals_part.py."""

from collections.abc import Sequence

import torch

from llmtool.core.model.experts_reference import expert, largest_first, softmax
from llmtool.methods.cartesian_moe.reference import norm

Stacks = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def choose(kind: str, p: Sequence[float], k: int, mass: float) -> list[tuple[int, float]]:
    """Experts of a token and their weights, from the scores of all."""
    order = largest_first(p)
    if kind == "topp":
        chosen, held = [], 0.0
        for e in order:
            if held >= mass:
                break
            chosen.append(e)
            held += p[e]
    else:
        chosen = order[:k]
    total = sum(p[e] for e in chosen)
    return [(e, p[e] / total) for e in chosen]


def routed(choice: Sequence[tuple[int, float]], stacks: Stacks, x: torch.Tensor) -> torch.Tensor:
    """sum_j w_j E_j(x) of one token [d]."""
    y = torch.zeros_like(x)
    for e, weight in choice:
        y = y + weight * expert(stacks, e, x)
    return y


def mixed(r: torch.Tensor, x: torch.Tensor, dense: Sequence[Stacks], c: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """c_0 r + c_1 mean of the shared experts; c [2, d], b [2]."""
    share = softmax([float(row @ x + at) for row, at in zip(c, b, strict=True)])
    s = torch.zeros_like(x)
    for stacks in dense:
        s = s + expert([stack[None] for stack in stacks], 0, x) / len(dense)
    return share[0] * r + share[1] * s


def deep(
    h: torch.Tensor, x: torch.Tensor, choice: Sequence[tuple[int, float]], a: Stacks, b: Stacks,
    shared_a: Sequence[Stacks], shared_b: Sequence[Stacks], coefficients: Sequence[tuple[torch.Tensor, torch.Tensor]],
    weight: torch.Tensor, eps: float, m: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Two sub-layers of one choice: h [d] the stream, x [d] its norm -> delta [d]; m: Granite's multiplier."""
    first = mixed(routed(choice, a, x), x, shared_a, *coefficients[0])
    y = norm(h + m * first, weight, eps)
    return first + mixed(routed(choice, b, y), y, shared_b, *coefficients[1])
