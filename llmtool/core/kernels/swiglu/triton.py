"""silu(gate) * up in one pass, and both gradients in one pass from gate and up: silu itself is never stored.

Eager torch keeps silu(gate) for the backward pass and moves 3 tensors more each way.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.operators import kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import tuned


@triton.jit
def forward_kernel(gate_ptr, up_ptr, y_ptr, count, BLOCK: tl.constexpr):
    """BLOCK elements of `count` a program."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gate = tl.load(gate_ptr + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (gate * tl.sigmoid(gate) * up).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(gate_ptr, up_ptr, dy_ptr, dgate_ptr, dup_ptr, count, BLOCK: tl.constexpr):
    """With s = sigmoid(gate): dup = dy gate s, dgate = dy up s (1 + gate (1 - s))."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gate = tl.load(gate_ptr + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(gate)
    tl.store(dup_ptr + at, (dy * gate * s).to(dup_ptr.dtype.element_ty), mask=inside)
    dgate = dy * up * s * (1.0 + gate * (1.0 - s))
    tl.store(dgate_ptr + at, dgate.to(dgate_ptr.dtype.element_ty), mask=inside)


@kernel_op
def forward(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gate and up of one shape and type -> the same."""
    refuse_double(gate, up)
    gate, up = gate.contiguous(), up.contiguous()
    y = torch.empty_like(gate)
    count, tile = gate.numel(), tuned("swiglu", "forward", gate.device, gate.shape[-1], gate.dtype)
    if count:
        launch(forward_kernel, (triton.cdiv(count, tile["BLOCK"]),), gate, up, y, count, **tile)
    return y


@kernel_op
def backward(gate: torch.Tensor, up: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """dgate and dup; all of one shape."""
    gate, up, dy = gate.contiguous(), up.contiguous(), dy.contiguous()
    dgate, dup = torch.empty_like(gate), torch.empty_like(up)
    count, tile = gate.numel(), tuned("swiglu", "backward", gate.device, gate.shape[-1], gate.dtype)
    if count:
        launch(backward_kernel, (triton.cdiv(count, tile["BLOCK"]),), gate, up, dy, dgate, dup, count, **tile)
    return dgate, dup


def save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001 - torch gives it by name
    """gate and up."""
    ctx.save_for_backward(*inputs)


def gradients(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """dy -> dgate, dup."""
    dgate, dup = backward(*ctx.saved_tensors, dy)
    return dgate, dup


forward.register_autograd(gradients, setup_context=save)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """As reference.swiglu."""
    y: torch.Tensor = forward(gate, up)
    return y
