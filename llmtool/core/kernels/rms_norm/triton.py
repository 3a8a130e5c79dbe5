"""RMSNorm, forward and backward, one pass over memory each: rows stay in registers between statistics and output.

Forward reads x once and writes y and 4 bytes a row. Backward reads x and dy once; each program sums the weight's
gradient over its own rows and writes one partial row, which torch adds up (a few hundred rows: under 2% of the bytes).
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.launch import multiprocessors
from llmtool.core.kernels.operators import kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import tuned

OP = "rms_norm"


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, y_ptr, rstd_ptr, rows, width, eps, ROWS: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """Each program norms ROWS rows of x [rows, width]."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    inside = (row < rows)[:, None] & (col < width)[None, :]
    at = row[:, None] * width + col[None, :]
    loaded = tl.load(x_ptr + at, mask=inside, other=0.0)
    x = loaded.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, 1) / width + eps)
    # Rounded to the type of x before the weight is applied, as the families do; the product of two bfloat16 is exact
    # in float32, so that this equals their bfloat16 multiplication.
    y = (x * rstd[:, None]).to(loaded.dtype).to(tl.float32)
    weight = tl.load(weight_ptr + col, mask=col < width, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (y * weight[None, :]).to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(rstd_ptr + row, rstd, mask=row < rows)


@triton.jit
def backward_kernel(
    x_ptr, weight_ptr, rstd_ptr, dy_ptr, dx_ptr, partial_ptr, rows, width, ROWS: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """Each program takes every num_programs-th tile of ROWS rows.

    With n = x rstd and g = dy weight: dx = rstd (g - n mean(g n)), dweight = sum over rows of dy n.
    """
    col = tl.arange(0, COLS)
    weight = tl.load(weight_ptr + col, mask=col < width, other=0.0).to(tl.float32)
    total = tl.zeros((COLS,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (col < width)[None, :]
        at = row[:, None] * width + col[None, :]
        loaded = tl.load(x_ptr + at, mask=inside, other=0.0)
        rstd = tl.load(rstd_ptr + row, mask=row < rows, other=0.0)
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        n = loaded.to(tl.float32) * rstd[:, None]
        g = dy * weight[None, :]
        dx = rstd[:, None] * (g - n * (tl.sum(g * n, 1) / width)[:, None])
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        total += tl.sum(dy * n.to(loaded.dtype).to(tl.float32), 0)
    tl.store(partial_ptr + tl.program_id(0) * width + col, total, mask=col < width)


def columns(width: int) -> int:
    """Lanes of a row: the next power of two."""
    return int(triton.next_power_of_2(width))


@kernel_op
def forward(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., width], weight [width] -> x's shape, in the type that x * weight has; 1 / rms of each row in float32."""
    refuse_double(x, weight)
    flat = x.contiguous().view(-1, x.shape[-1])
    rows, width = flat.shape
    y = torch.empty(flat.shape, dtype=torch.promote_types(x.dtype, weight.dtype), device=x.device)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    tile = tuned(OP, "forward", x.device, width, x.dtype)
    if rows:
        launch(
            forward_kernel, (triton.cdiv(rows, tile["ROWS"]),), flat, weight.contiguous(), y, rstd, rows, width, eps,
            ROWS=tile["ROWS"], COLS=columns(width), num_warps=tile["num_warps"],
        )  # fmt: skip
    return y.view(x.shape), rstd


@kernel_op
def backward(
    x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, dy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy as y -> dx, dweight."""
    flat = x.contiguous().view(-1, x.shape[-1])
    rows, width = flat.shape
    tile = tuned(OP, "backward", flat.device, width, x.dtype)
    programs = max(1, min(triton.cdiv(rows, tile["ROWS"]), multiprocessors(flat.device) * tile["programs"]))
    dx = torch.empty_like(flat)
    partial = torch.empty(programs, width, dtype=torch.float32, device=flat.device)
    launch(
        backward_kernel, (programs,), flat, weight.contiguous(), rstd, dy.contiguous(), dx, partial, rows, width,
        ROWS=tile["ROWS"], COLS=columns(width), num_warps=tile["num_warps"],
    )  # fmt: skip
    return dx.view(x.shape), partial.sum(0).to(weight.dtype)


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    """x, weight and the rows' statistics."""
    ctx.save_for_backward(inputs[0], inputs[1], output[1])


def gradients(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
    """dy -> dx, dweight."""
    dx, dweight = backward(*ctx.saved_tensors, dy)
    return dx, dweight, None


forward.register_autograd(gradients, setup_context=save)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """As reference.rms_norm."""
    y: torch.Tensor = forward(x, weight, eps)[0]
    return y
