"""The product and its gradients, one pass over memory each; blocks of weight 0 are not read forward.

Backward, with s = silu(gate), s' = sigmoid (1 + gate (1 - sigmoid)): dgate = w dy up s', dup = w dy s, and
dw = sum over the block of dy s up, which closed blocks need as well: their gates learn by it (straight-through).
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.operators import kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import tuned

OP = "masked_swiglu"


@triton.jit
def forward_kernel(gate_ptr, up_ptr, weights_ptr, y_ptr, size, experts, COLS: tl.constexpr):
    """Program (token, expert): a block of y."""
    token = tl.program_id(0).to(tl.int64)
    expert = tl.program_id(1)
    weight = tl.load(weights_ptr + token * experts + expert).to(tl.float32)
    first = (token * experts + expert) * size
    for start in range(0, size, COLS):
        col = start + tl.arange(0, COLS)
        # With a weight of 0 nothing is loaded, and an activation that overflowed does not spoil the product.
        inside = col < tl.where(weight != 0, size, 0)
        gate = tl.load(gate_ptr + first + col, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(up_ptr + first + col, mask=inside, other=0.0).to(tl.float32)
        y = gate / (1.0 + tl.exp(-gate)) * up * weight
        tl.store(y_ptr + first + col, y.to(y_ptr.dtype.element_ty), mask=col < size)


@triton.jit
def backward_kernel(
    gate_ptr, up_ptr, weights_ptr, dy_ptr, dgate_ptr, dup_ptr, dweights_ptr, size, experts, COLS: tl.constexpr
):  # fmt: skip
    """Program (token, expert): a block of dgate and dup, and its dw."""
    token = tl.program_id(0).to(tl.int64)
    expert = tl.program_id(1)
    weight = tl.load(weights_ptr + token * experts + expert).to(tl.float32)
    first = (token * experts + expert) * size
    total = tl.zeros((COLS,), tl.float32)
    for start in range(0, size, COLS):
        col = start + tl.arange(0, COLS)
        inside = col < size
        gate = tl.load(gate_ptr + first + col, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(up_ptr + first + col, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + first + col, mask=inside, other=0.0).to(tl.float32)
        s = 1.0 / (1.0 + tl.exp(-gate))
        total += dy * gate * s * up
        dgate = weight * dy * up * s * (1.0 + gate * (1.0 - s))
        tl.store(dgate_ptr + first + col, dgate.to(dgate_ptr.dtype.element_ty), mask=inside)
        tl.store(dup_ptr + first + col, (weight * dy * gate * s).to(dup_ptr.dtype.element_ty), mask=inside)
    tl.store(dweights_ptr + token * experts + expert, tl.sum(total, 0).to(dweights_ptr.dtype.element_ty))


@kernel_op
def forward(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """gate, up [..., I], weights [..., n] -> [..., I]."""
    refuse_double(gate, up)
    gate, up, weights = gate.contiguous(), up.contiguous(), weights.contiguous()
    experts, inner = weights.shape[-1], gate.shape[-1]
    y = torch.empty_like(gate)
    rows = gate.numel() // inner
    if rows:
        tile = tuned(OP, "forward", gate.device, inner, gate.dtype)
        launch(
            forward_kernel, (rows, experts), gate, up, weights, y, inner // experts, experts, COLS=tile["COLS"],
            num_warps=tile["num_warps"],
        )  # fmt: skip
    return y


@kernel_op
def backward(
    gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor, dy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dy -> dgate, dup, dweights."""
    gate, up, weights, dy = gate.contiguous(), up.contiguous(), weights.contiguous(), dy.contiguous()
    experts, inner = weights.shape[-1], gate.shape[-1]
    dgate, dup, dweights = torch.empty_like(gate), torch.empty_like(up), torch.empty_like(weights)
    rows = gate.numel() // inner
    if rows:
        tile = tuned(OP, "backward", gate.device, inner, gate.dtype)
        launch(
            backward_kernel, (rows, experts), gate, up, weights, dy, dgate, dup, dweights, inner // experts, experts,
            COLS=tile["COLS"], num_warps=tile["num_warps"],
        )  # fmt: skip
    return dgate, dup, dweights


def save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001 - torch gives it by name
    """gate, up and the weights; nothing as large as them beside."""
    ctx.save_for_backward(*inputs)


def gradients(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dy -> dgate, dup, dweights."""
    dgate, dup, dweights = backward(*ctx.saved_tensors, dy)
    return dgate, dup, dweights


forward.register_autograd(gradients, setup_context=save)


def masked_swiglu(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """As reference.masked_swiglu."""
    y: torch.Tensor = forward(gate, up, weights)
    return y
