"""Grouped matrix products with no synchronisation: a program finds its group from `ends` on the device.

The host knows how many tiles of rows there can be at most (each group wastes less than one); a program counts the
tiles of the groups before its own, a few hundred additions, and ends if it has none. Forward (x W^T) and the gradient
of x (dy W) are one kernel with the strides of W exchanged; the gradient of W sums over a group's rows.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.launch import interpreting
from llmtool.core.kernels.operators import autocast, kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import aligned, tuned


@triton.jit
def tile_order(rows, groups, outs, ROWS: tl.constexpr, OUTS: tl.constexpr, SWIZZLE: tl.constexpr):
    """Tile of rows and tile of columns of this program.

    Neighbours in time share SWIZZLE tiles of rows, so that a matrix is read once from memory for them.
    """
    row_tiles = tl.cdiv(rows, ROWS) + groups
    out_tiles = tl.cdiv(outs, OUTS)
    program = tl.program_id(0)
    first = program // (SWIZZLE * out_tiles) * SWIZZLE
    tall = tl.minimum(row_tiles - first, SWIZZLE)
    inner = program % (SWIZZLE * out_tiles)
    return first + inner % tall, inner // tall


@triton.jit
def find_rows(ends_ptr, groups, row_tile, GROUPS: tl.constexpr, ROWS: tl.constexpr):
    """Group of a tile, its first row and the end of the group's rows; a tile too many gets the group `groups`."""
    each = tl.arange(0, GROUPS)
    end = tl.load(ends_ptr + each, mask=each < groups, other=0)
    begin = tl.load(ends_ptr + each - 1, mask=(each > 0) & (each < groups), other=0)
    tiles = (end - begin + ROWS - 1) // ROWS
    after = tl.cumsum(tiles, 0)
    group = tl.sum(((after <= row_tile) & (each < groups)).to(tl.int32), 0)
    mine = each == group
    stop = tl.sum(tl.where(mine, end, 0), 0)
    start = tl.sum(tl.where(mine, begin - (after - tiles) * ROWS, 0), 0) + row_tile * ROWS
    return group, start, stop


@triton.jit
def within(known, at, end, EVEN: tl.constexpr):
    """`known`, and nothing beyond the end of a row; EVEN: no tile reaches there, and the loop needs no comparison."""
    return known if EVEN else known & (at < end)


@triton.jit
def rows_kernel(
    x_ptr, weight_ptr, ends_ptr, y_ptr, rows, groups, outs, depth,
    weight_group, weight_out, weight_in,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, DEPTH: tl.constexpr, SWIZZLE: tl.constexpr,
    EVEN: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile ROWS x OUTS of y [rows, outs] = x [rows, depth] times the group's matrix [outs, depth], transposed."""
    row_tile, out_tile = tile_order(rows, groups, outs, ROWS, OUTS, SWIZZLE)
    group, start, stop = find_rows(ends_ptr, groups, row_tile, GROUPS, ROWS)
    if group < groups:
        row = start + tl.arange(0, ROWS)
        out = out_tile * OUTS + tl.arange(0, OUTS)
        inside = row < stop
        x_at = x_ptr + row.to(tl.int64)[:, None] * depth
        weight_at = weight_ptr + group.to(tl.int64) * weight_group + out[None, :] * weight_out
        total = tl.zeros((ROWS, OUTS), tl.float32)
        for k in range(0, depth, DEPTH):
            at = k + tl.arange(0, DEPTH)
            x = tl.load(x_at + at[None, :], mask=within(inside[:, None], at[None, :], depth, EVEN), other=0.0)
            known = within((out < outs)[None, :], at[:, None], depth, EVEN)
            w = tl.load(weight_at + at[:, None] * weight_in, mask=known, other=0.0)
            if WIDEN:
                x, w = x.to(tl.float32), w.to(tl.float32)
            total = tl.dot(x, w, total, input_precision=PRECISION)
        y_at = y_ptr + row.to(tl.int64)[:, None] * outs + out[None, :]
        tl.store(y_at, total.to(y_ptr.dtype.element_ty), mask=inside[:, None] & (out < outs)[None, :])


@triton.jit
def weight_kernel(
    x_ptr, dy_ptr, ends_ptr, dweight_ptr, outs, depth,
    ROWS: tl.constexpr, OUTS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile OUTS x DEPTH of dweight[group] = dy^T x over the group's rows; zeros where it has none."""
    tile, group = tl.program_id(0), tl.program_id(1)
    depth_tiles = tl.cdiv(depth, DEPTH)
    out = tile // depth_tiles * OUTS + tl.arange(0, OUTS)
    at = tile % depth_tiles * DEPTH + tl.arange(0, DEPTH)
    begin = tl.load(ends_ptr + group - 1, mask=group > 0, other=0)
    end = tl.load(ends_ptr + group)
    total = tl.zeros((OUTS, DEPTH), tl.float32)
    for start in range(begin, end, ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        inside = row < end
        dy = tl.load(
            dy_ptr + row[None, :] * outs + out[:, None], mask=inside[None, :] & (out < outs)[:, None], other=0.0
        )
        x = tl.load(x_ptr + row[:, None] * depth + at[None, :], mask=inside[:, None] & (at < depth)[None, :], other=0.0)
        if WIDEN:
            dy, x = dy.to(tl.float32), x.to(tl.float32)
        total = tl.dot(dy, x, total, input_precision=PRECISION)
    to = dweight_ptr + (group.to(tl.int64) * outs + out[:, None]) * depth + at[None, :]
    tl.store(to, total.to(dweight_ptr.dtype.element_ty), mask=(out < outs)[:, None] & (at < depth)[None, :])


@kernel_op
def rows_product(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor, transposed: bool) -> torch.Tensor:
    """x [rows, depth] times weight [groups, outs, depth], or [groups, depth, outs] where transposed -> [rows, outs]."""
    refuse_double(x, weight)
    x = x.contiguous()
    rows, depth = x.shape
    groups, outs = len(weight), weight.shape[2 if transposed else 1]
    y = torch.empty(rows, outs, dtype=x.dtype, device=x.device)
    tile = tuned("grouped_gemm", "rows", x.device, outs, x.dtype, whole=aligned(outs, depth))
    strides = weight.stride(0), weight.stride(2 if transposed else 1), weight.stride(1 if transposed else 2)
    programs = (triton.cdiv(rows, tile["ROWS"]) + groups) * triton.cdiv(outs, tile["OUTS"])
    if rows:
        launch(
            rows_kernel, (programs,), x, weight, ends, y, rows, groups, outs, depth, *strides,
            GROUPS=triton.next_power_of_2(groups), EVEN=depth % tile["DEPTH"] == 0, **tile, **arithmetic(x.dtype),
        )  # fmt: skip
    return y


@kernel_op
def weight_product(x: torch.Tensor, dy: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """x [rows, depth], dy [rows, outs] -> the gradient of the weight [groups, outs, depth]."""
    x, dy = x.contiguous(), dy.contiguous()
    depth, outs = x.shape[1], dy.shape[1]
    dweight = torch.empty(len(ends), outs, depth, dtype=x.dtype, device=x.device)
    tile = tuned("grouped_gemm", "weight", x.device, outs, x.dtype, whole=aligned(outs, depth))
    tiles = triton.cdiv(outs, tile["OUTS"]) * triton.cdiv(depth, tile["DEPTH"])
    launch(
        weight_kernel, (tiles, len(ends)), x, dy, ends, dweight, outs, depth, **tile, **arithmetic(x.dtype)
    )  # fmt: skip
    return dweight


def arithmetic(dtype: torch.dtype) -> dict[str, Any]:
    """float32 is multiplied as float32, not as TF32; where Triton interprets, bfloat16 is too: it cannot else."""
    return {
        "WIDEN": interpreting() and dtype != torch.float32,
        "PRECISION": "ieee" if dtype == torch.float32 else "tf32",
    }


def save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001 - torch gives it by name
    """x, weight, ends; of a `rows` that is itself a gradient too."""
    ctx.save_for_backward(*inputs[:3])
    ctx.transposed = inputs[3]


def gradients(
    ctx: Any, dy: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:  # fmt: skip
    """dy -> dx, dweight."""
    x, weight, ends = ctx.saved_tensors
    dx = rows_product(dy, weight, ends, not ctx.transposed) if ctx.needs_input_grad[0] else None
    dweight = weight_product(x, dy, ends) if ctx.needs_input_grad[1] else None
    return dx, dweight, None, None


rows_product.register_autograd(gradients, setup_context=save)


def grouped_gemm(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """As reference.grouped_gemm; under autocast in its type, as a linear layer's product would be."""
    x, weight = autocast(x, weight)
    y: torch.Tensor = rows_product(x, weight, ends, False)
    return y
