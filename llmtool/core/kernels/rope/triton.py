"""q and k turned in one launch: a program takes one token, all its heads, and reads its row of the tables once.

Eager torch reads and writes each of q and k several times (two products, a sum and a concatenation for each half);
here each element crosses the bus twice. The backward pass is the same kernel with the sines' sign turned: the
transpose of (cos, -sin; sin, cos). Any strides are taken as they are, so that the [B, T, H, D] that the projections
give needs no copy; the results keep the layout of the inputs.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.operators import kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import tuned


@triton.jit
def turn_heads(
    x_ptr, y_ptr, cos_ptr, sin_ptr, x_head, y_head, cos_head, sin_head, heads, groups, half, sign,
    HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """All heads of one token: x and y at its first element, tables at its row."""
    head, pair = tl.arange(0, HEADS), tl.arange(0, HALF)
    inside = (head < heads)[:, None] & (pair < half)[None, :]
    a_at = head[:, None] * x_head + pair[None, :]
    a = tl.load(x_ptr + a_at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x_ptr + a_at + half, mask=inside, other=0.0).to(tl.float32)
    table = (head // groups)[:, None]
    cos = tl.load(cos_ptr + table * cos_head + pair[None, :], mask=inside, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + table * sin_head + pair[None, :], mask=inside, other=0.0).to(tl.float32) * sign
    y_at = head[:, None] * y_head + pair[None, :]
    tl.store(y_ptr + y_at, (a * cos - b * sin).to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(y_ptr + y_at + half, (b * cos + a * sin).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rope_kernel(
    q_ptr, k_ptr, q_out_ptr, k_out_ptr, cos_ptr, sin_ptr,
    q_row, q_head, q_token, k_row, k_head, k_token,
    qo_row, qo_head, qo_token, ko_row, ko_head, ko_token,
    cos_row, cos_head, cos_token, sin_row, sin_head, sin_token,
    tokens, q_heads, k_heads, half, sign,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One program a token; strides in elements, 0 where a table is shared by rows or by heads."""
    place = tl.program_id(0).to(tl.int64)
    row, token = place // tokens, place % tokens
    cos_ptr += row * cos_row + token * cos_token
    sin_ptr += row * sin_row + token * sin_token
    turn_heads(
        q_ptr + row * q_row + token * q_token, q_out_ptr + row * qo_row + token * qo_token, cos_ptr, sin_ptr,
        q_head, qo_head, cos_head, sin_head, q_heads, q_heads // k_heads, half, sign, Q_HEADS, HALF,
    )  # fmt: skip
    turn_heads(
        k_ptr + row * k_row + token * k_token, k_out_ptr + row * ko_row + token * ko_token, cos_ptr, sin_ptr,
        k_head, ko_head, cos_head, sin_head, k_heads, 1, half, sign, K_HEADS, HALF,
    )  # fmt: skip


@kernel_op
def turn(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn forward (1) or back (-1)."""
    refuse_double(q, k)
    q, k, cos, sin = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, cos, sin))
    batch, heads, tokens, size = q.shape
    q_out, k_out = torch.empty_like(q), torch.empty_like(k)
    tile = tuned("rope", "token", q.device, heads * size, q.dtype)
    if batch * tokens:
        launch(
            rope_kernel, (batch * tokens,), q, k, q_out, k_out, cos, sin,
            *q.stride()[:3], *k.stride()[:3], *q_out.stride()[:3], *k_out.stride()[:3],
            *shared_strides(cos), *shared_strides(sin),
            tokens, heads, k.shape[1], size // 2, sign,
            Q_HEADS=triton.next_power_of_2(heads), K_HEADS=triton.next_power_of_2(k.shape[1]),
            HALF=triton.next_power_of_2(size // 2), num_warps=tile["num_warps"],
        )  # fmt: skip
    return q_out, k_out


def shared_strides(table: torch.Tensor) -> tuple[int, int, int]:
    """Strides of rows, heads and tokens; 0 where there is only one."""
    row, head, token = (0 if n == 1 else s for n, s in zip(table.shape[:3], table.stride()[:3], strict=True))
    return row, head, token


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:  # noqa: ARG001
    """The tables, which get no gradient."""
    ctx.save_for_backward(inputs[2], inputs[3])
    ctx.sign = inputs[4]


def gradients(
    ctx: Any, dq: torch.Tensor, dk: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:  # fmt: skip
    """Turn dq and dk back."""
    cos, sin = ctx.saved_tensors
    q, k = turn(dq, dk, cos, sin, -ctx.sign)
    return q, k, None, None, None


turn.register_autograd(gradients, setup_context=save)


def rope(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As reference.rope."""
    turned: tuple[torch.Tensor, torch.Tensor] = turn(q, k, cos, sin, 1)
    return turned
