"""The expert layer, literally: a token after the other, an expert after the other. Slow, and not exported."""

import math
from collections.abc import Sequence

import torch


def expert(stacks: Sequence[torch.Tensor], e: int, x: torch.Tensor) -> torch.Tensor:
    """SwiGLU of expert e for one token x [d] -> [d]; stacks: gate, up [E, inner, d], down [E, d, inner]."""
    gate, up, down = (stack[e] for stack in stacks)
    z = gate @ x
    return down @ (z / (1 + torch.exp(-z)) * (up @ x))


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities; -inf is an expert that is not there."""
    largest = max(logits)
    powers = [math.exp(z - largest) for z in logits]
    return [power / sum(powers) for power in powers]


def largest_first(p: Sequence[float]) -> list[int]:
    """Numbers of the experts, the likeliest first; of equals the lower number."""
    return sorted(range(len(p)), key=lambda e: (-p[e], e))


def top_k(
    x: torch.Tensor, router: torch.Tensor, stacks: Sequence[torch.Tensor], k: int, normalise: bool = True
) -> torch.Tensor:
    """x [N, d], router [E, d] -> [N, d]: sum over the k likeliest experts of their probability times their output."""
    rows = []
    for token in x:
        p = softmax([float(row @ token) for row in router])
        chosen = largest_first(p)[:k]
        total = sum(p[e] for e in chosen) if normalise else 1.0
        y = torch.zeros_like(token)
        for e in chosen:
            y = y + p[e] / total * expert(stacks, e, token)
        rows.append(y)
    return torch.stack(rows)


def balance(p: Sequence[Sequence[float]], chosen: Sequence[Sequence[int]], experts: int) -> float:
    """E sum_e f_e P_e of some tokens: f the share of all choices that fell on e, P the mean probability of e."""
    choices = [e for row in chosen for e in row]
    return experts * sum(
        (choices.count(e) / len(choices)) * (sum(row[e] for row in p) / len(p)) for e in range(experts)
    )
