"""Both products of a SwiGLU expert and its activation in one kernel: x is read once, gate and up stay in registers.

Without gradients only the activation is written; with them gate and up are too (the backward pass needs both), still
without being read again. The backward pass is SwiGLU's kernel and the grouped products of grouped_gemm.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.grouped_gemm.triton import (
    arithmetic,
    find_rows,
    rows_product,
    tile_order,
    weight_product,
    within,
)
from llmtool.core.kernels.operators import autocast, kernel_op, launch, refuse_double
from llmtool.core.kernels.swiglu.triton import backward
from llmtool.core.kernels.tuning import aligned, tuned


@triton.jit
def forward_kernel(
    x_ptr, gate_ptr, up_ptr, ends_ptr, y_ptr, gates_ptr, ups_ptr, rows, groups, inner, width,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, DEPTH: tl.constexpr, SWIZZLE: tl.constexpr,
    EVEN: tl.constexpr, SAVE: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile ROWS x OUTS of y [rows, inner], and with SAVE of the values before the activation."""
    row_tile, out_tile = tile_order(rows, groups, inner, ROWS, OUTS, SWIZZLE)
    group, start, stop = find_rows(ends_ptr, groups, row_tile, GROUPS, ROWS)
    if group < groups:
        row = start + tl.arange(0, ROWS)
        out = out_tile * OUTS + tl.arange(0, OUTS)
        inside = row < stop
        x_at = x_ptr + row.to(tl.int64)[:, None] * width
        weight_at = group.to(tl.int64) * inner * width + out[None, :] * width
        gate = tl.zeros((ROWS, OUTS), tl.float32)
        up = tl.zeros((ROWS, OUTS), tl.float32)
        for k in range(0, width, DEPTH):
            at = k + tl.arange(0, DEPTH)
            x = tl.load(x_at + at[None, :], mask=within(inside[:, None], at[None, :], width, EVEN), other=0.0)
            known = within((out < inner)[None, :], at[:, None], width, EVEN)
            g = tl.load(gate_ptr + weight_at + at[:, None], mask=known, other=0.0)
            u = tl.load(up_ptr + weight_at + at[:, None], mask=known, other=0.0)
            if WIDEN:
                x, g, u = x.to(tl.float32), g.to(tl.float32), u.to(tl.float32)
            gate = tl.dot(x, g, gate, input_precision=PRECISION)
            up = tl.dot(x, u, up, input_precision=PRECISION)
        to = row.to(tl.int64)[:, None] * inner + out[None, :]
        known = inside[:, None] & (out < inner)[None, :]
        if SAVE:
            tl.store(gates_ptr + to, gate.to(gates_ptr.dtype.element_ty), mask=known)
            tl.store(ups_ptr + to, up.to(ups_ptr.dtype.element_ty), mask=known)
        tl.store(y_ptr + to, (gate * tl.sigmoid(gate) * up).to(y_ptr.dtype.element_ty), mask=known)


@kernel_op
def forward(
    x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor, save: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As reference.grouped_swiglu, and where `save` the products x gate and x up, else nothing twice."""
    refuse_double(x, gate)
    x, gate, up = x.contiguous(), gate.contiguous(), up.contiguous()
    rows, (groups, inner, width) = len(x), gate.shape
    y = torch.empty(rows, inner, dtype=x.dtype, device=x.device)
    gates, ups = (torch.empty(y.shape if save else (0,), dtype=y.dtype, device=y.device) for _ in range(2))
    kernel = "saving" if save else "forward"
    tile = tuned("grouped_swiglu", kernel, x.device, inner, x.dtype, whole=aligned(inner, width))
    programs = (triton.cdiv(rows, tile["ROWS"]) + groups) * triton.cdiv(inner, tile["OUTS"])
    if rows:
        launch(
            forward_kernel, (programs,), x, gate, up, ends, y, gates, ups, rows, groups, inner, width,
            GROUPS=triton.next_power_of_2(groups), EVEN=width % tile["DEPTH"] == 0, SAVE=save, **tile,
            **arithmetic(x.dtype),
        )  # fmt: skip
    return y, gates, ups


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Inputs, and the products before the activation."""
    ctx.save_for_backward(*inputs[:4], *output[1:])


def gradients(
    ctx: Any, dy: torch.Tensor, *_: Any
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None, None]:
    """dy -> dx, dgate, dup."""
    x, gate, up, ends, gates, ups = ctx.saved_tensors
    dgates, dups = backward(gates, ups, dy)
    dx = dgate = dup = None
    if ctx.needs_input_grad[0]:
        dx = rows_product(dgates, gate, ends, True) + rows_product(dups, up, ends, True)
    if ctx.needs_input_grad[1]:
        dgate = weight_product(x, dgates, ends)
    if ctx.needs_input_grad[2]:
        dup = weight_product(x, dups, ends)
    return dx, dgate, dup, None, None


forward.register_autograd(gradients, setup_context=save)


def grouped_swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """As reference.grouped_swiglu; under autocast in its type, as linear layers' products would be."""
    x, gate, up = autocast(x, gate, up)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, gate, up))
    y: torch.Tensor = forward(x, gate, up, ends, wanted)[0]
    return y
