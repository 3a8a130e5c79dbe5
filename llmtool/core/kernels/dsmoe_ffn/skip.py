"""On a CPU: open blocks alone, by slices of the weights.

One token: the rows of gate and up and the columns of down of its open blocks, neighbours together. More tokens: each
block on the tokens that open it. Where so many blocks are open that gathering would cost more than it saves, the masked
form runs (limits: docs/methods/dsmoe.md).
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.kernels.dsmoe_ffn.reference import Result, masked, route

MOST = 0.8
"""Share of open (token, block) pairs above which the masked form is as fast."""
FEW = 16
"""Tokens up to which blocks that no token opens are skipped, but tokens are not gathered."""


def dsmoe_ffn(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
) -> Result:
    """As reference.dsmoe_ffn; for inference."""
    gates, weights = route(x, router, bias, tau, scale)
    experts, size = router.shape[0], gate.shape[0] // router.shape[0]
    open_ = weights > 0
    if len(x) <= FEW:
        used = open_.any(0).tolist()
        if not any(used):
            return torch.zeros_like(x), gates
        delta = None
        for first, last in runs(used):
            a = F.silu(F.linear(x, gate[first * size : last * size])) * F.linear(x, up[first * size : last * size])
            w = weights[:, first:last, None].to(a.dtype)
            a = (a.view(len(x), last - first, size) * w).view(len(x), -1)
            part = F.linear(a, down[:, first * size : last * size])
            delta = part if delta is None else delta + part
        assert delta is not None
        return delta, gates
    if float(open_.float().mean()) > MOST:
        return masked(x, gate, up, down, router, bias, tau, scale)
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


def runs(used: list[bool]) -> list[tuple[int, int]]:
    """[start, stop) of the runs of True."""
    edges = [i for i, (a, b) in enumerate(zip([False, *used], [*used, False], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
