"""DSMoE's feed-forward layer as defined: expert by expert, and the masked-dense form that the decoder runs.

    g = sigmoid(x Y + b); G = g where g > tau, else 0; w = scale n / #active G; delta = sum_i w_i o_i

with o_i the SwiGLU of the i-th of n groups of intermediate channels; 0 where no gate is open. `unit`: w = scale where
g > tau, whatever the gate and the number of open ones.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

Result = tuple[torch.Tensor, torch.Tensor]
"""delta [N, d], and G [N, n] in float32 (float64 for float64 inputs)."""


def route(
    x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor | None, tau: float, scale: float, unit: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [N, d], router [n, d], bias [n] -> G and w [N, n]; the order of the products is the part's."""
    precise = torch.promote_types(x.dtype, torch.float32)
    g = torch.sigmoid(F.linear(x.to(precise), router.to(precise), None if bias is None else bias.to(precise)))
    active = g > tau
    gates = torch.where(active, g, torch.zeros_like(g))
    if unit:
        return gates, active.to(precise) * scale
    count = active.sum(-1, keepdim=True).clamp(min=1)
    return gates, gates * scale * (router.shape[0] / count.to(precise))


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
    """x [N, d]; gate, up [I, d]; down [d, I]; router [n, d]; bias [n] or None -> delta [N, d], G [N, n]."""
    gates, weights = route(x, router, bias, tau, scale, unit)
    experts = router.shape[0]
    delta = torch.zeros_like(x)
    columns = zip(gate.chunk(experts), up.chunk(experts), down.chunk(experts, 1), weights.unbind(1), strict=True)
    for gate_i, up_i, down_i, w in columns:
        o = F.linear(F.silu(F.linear(x, gate_i)) * F.linear(x, up_i), down_i)
        delta = delta + o * w[:, None].to(o.dtype)
    return delta, gates


def masked(
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
    """The same as one dense layer: every block is computed, and multiplied by its weight before down."""
    gates, weights = route(x, router, bias, tau, scale, unit)
    a = F.silu(F.linear(x, gate)) * F.linear(x, up)
    blocks = a.view(len(x), router.shape[0], -1) * weights.to(a.dtype)[..., None]
    return F.linear(blocks.view(a.shape), down), gates
