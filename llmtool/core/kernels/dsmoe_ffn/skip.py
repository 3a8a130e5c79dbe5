"""On a CPU: open blocks alone, by slices of the weights.

One token: the rows of gate and up and the columns of down of its open blocks, neighbours together. More tokens: each
block on the tokens that open it. Measured, 3 of 8 blocks open, Llama-3.2-1B's shape, float32, one thread: 2.2 times the
dense layer at 1 token, 1.2 at 8, 2.1 at 64, 2.6 at 512 (docs/methods/dsmoe.md). Reading the union of the open blocks
without gathering, which saves copies, was slower from 2 tokens on.

An operator of torch, so that torch.compile leaves it alone: it branches on what the gates say.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import library

from llmtool.core.kernels.dsmoe_ffn.reference import Result, masked, route

MOST = 0.8
"""Share of open (token, block) pairs above which the masked form is as fast: 6 of 8 still gain 1.3, 7 of 8 nothing."""
TOKENS, WEIGHTS = 16, 1 << 22
"""Between one token and so many, a layer whose gate_proj has fewer weights is done before its tokens are gathered:
512 x 2048 ran at 0.82 of the dense layer at 4 tokens."""


@library.custom_op("llmtool::dsmoe_ffn_cpu", mutates_args=())
def dsmoe_ffn(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """As reference.dsmoe_ffn; for inference."""
    gates, weights = route(x, router, bias, tau, scale, unit)
    experts, size = router.shape[0], gate.shape[0] // router.shape[0]
    open_ = weights > 0
    if len(x) == 1:
        return one_token(x, gate, up, down, weights), gates
    small = len(x) < TOKENS and gate.numel() < WEIGHTS
    if small or float(open_.float().mean()) > MOST:
        return masked(x, gate, up, down, router, bias, tau, scale, unit)
    delta = torch.zeros_like(x)
    for i in range(experts):
        tokens = open_[:, i].nonzero()[:, 0]
        if not len(tokens):
            continue
        group = slice(i * size, (i + 1) * size)
        inputs = x[tokens]
        a = F.silu(F.linear(inputs, gate[group])) * F.linear(inputs, up[group])
        a *= weights[tokens, i, None].to(a.dtype)
        delta.index_add_(0, tokens, F.linear(a, down[:, group]))
    return delta, gates


@dsmoe_ffn.register_fake
def _(*inputs: Any) -> Result:
    x, router = inputs[0], inputs[4]
    gates = x.new_empty(len(x), len(router), dtype=torch.promote_types(x.dtype, torch.float32))
    return torch.empty_like(x), gates


def one_token(
    x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """x [1, d], weights [1, n] -> delta [1, d]."""
    size = gate.shape[0] // weights.shape[1]
    delta = torch.zeros_like(x)
    for first, last in runs((weights[0] > 0).tolist()):
        group = slice(first * size, last * size)
        a = F.silu(F.linear(x, gate[group])) * F.linear(x, up[group])
        a = a.view(last - first, size) * weights[0, first:last, None].to(a.dtype)
        delta += F.linear(a.view(1, -1), down[:, group])
    return delta


def runs(used: list[bool]) -> list[tuple[int, int]]:
    """[start, stop) of the runs of True."""
    edges = [i for i, (a, b) in enumerate(zip([False, *used], [*used, False], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
