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
    kernel_name,
    rows_product,
    tile_order,
    weight_product,
)
from llmtool.core.kernels.swiglu.triton import gradients_of
from llmtool.core.kernels.tuning import tuned


@triton.jit
def forward_kernel(
    x_ptr, gate_ptr, up_ptr, ends_ptr, y_ptr, gates_ptr, ups_ptr, rows, groups, inner, width,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, DEPTH: tl.constexpr, SWIZZLE: tl.constexpr,
    SAVE: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
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
            x = tl.load(x_at + at[None, :], mask=inside[:, None] & (at < width)[None, :], other=0.0)
            known = (out < inner)[None, :] & (at < width)[:, None]
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


class GroupedSwiGLU(torch.autograd.Function):
    """The kernels to autograd."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """As reference.grouped_swiglu."""
        x, gate, up = x.contiguous(), gate.contiguous(), up.contiguous()
        rows, (groups, inner, width) = len(x), gate.shape
        y = torch.empty(rows, inner, dtype=x.dtype, device=x.device)
        save = any(ctx.needs_input_grad)
        gates, ups = (torch.empty_like(y), torch.empty_like(y)) if save else (y, y)
        tile = tuned("grouped_swiglu", kernel_name("saving" if save else "forward", x.dtype), x.device, inner)
        programs = (triton.cdiv(rows, tile["ROWS"]) + groups) * triton.cdiv(inner, tile["OUTS"])
        if rows:
            forward_kernel[(programs,)](
                x, gate, up, ends, y, gates, ups, rows, groups, inner, width,
                GROUPS=triton.next_power_of_2(groups), SAVE=save, **tile, **arithmetic(x.dtype),
            )  # fmt: skip
        if save:
            ctx.save_for_backward(x, gate, up, ends, gates, ups)
        return y

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None]:
        """dy -> dx, dgate, dup."""
        x, gate, up, ends, gates, ups = ctx.saved_tensors
        dgates, dups = gradients_of(gates, ups, gradients[0].contiguous())
        dx = dgate = dup = None
        if ctx.needs_input_grad[0]:
            dx = rows_product(dgates, gate, ends, transposed=True)
            dx += rows_product(dups, up, ends, transposed=True)
        if ctx.needs_input_grad[1]:
            dgate = weight_product(x, dgates, ends)
        if ctx.needs_input_grad[2]:
            dup = weight_product(x, dups, ends)
        return dx, dgate, dup, None


def grouped_swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """As reference.grouped_swiglu."""
    y: torch.Tensor = GroupedSwiGLU.apply(x, gate, up, ends)
    return y
