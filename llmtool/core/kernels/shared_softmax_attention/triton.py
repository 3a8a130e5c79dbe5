"""Split-T: each program weighs a stretch of one key-value head's places for all query heads that share it.

Decoding one token reads all of V once and little else: B x heads programs do not fill a GPU, so the places are cut into
SPLITS stretches. p is normalised already, so partial sums in float32 are added and nothing is rescaled, unlike in
flash-decoding. The query heads of a key-value head are the rows of one matrix product, padded to 16.
"""

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.launch import interpreting, multiprocessors
from llmtool.core.kernels.operators import kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import tuned

ROWS = 16
"""Rows of the smallest matrix instruction."""


@triton.jit
def weigh_kernel(
    p_ptr, v_ptr, map_ptr, y_ptr, places, stretch, batch_heads, size, group, v_layer, v_batch, v_head, v_place, heads,
    p_heads, MAPPED: tl.constexpr,
    GROUP: tl.constexpr, PLACES: tl.constexpr, SIZE: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y [L, B, heads, SPLITS, group, D] float32: sum over a stretch of p [B, p_heads, S] v [L, B, heads, S, D].

    Head h weighs with head h of p or, MAPPED, with head map[h] of it: read where it lies, nothing is gathered.
    """
    one, split = tl.program_id(0), tl.program_id(1)
    layer, pair = one // batch_heads, one % batch_heads
    batch, head = pair // heads, pair % heads
    row, col = tl.arange(0, GROUP), tl.arange(0, SIZE)
    first = split * stretch
    last = tl.minimum(first + stretch, places)
    which = head * group + row
    if MAPPED:
        which = tl.load(map_ptr + which.to(tl.int64), mask=row < group, other=0)
    p_at = p_ptr + (batch * p_heads + which).to(tl.int64)[:, None] * places
    v_at = v_ptr + layer.to(tl.int64) * v_layer + batch.to(tl.int64) * v_batch + head.to(tl.int64) * v_head
    total = tl.zeros((GROUP, SIZE), tl.float32)
    for start in range(first, last, PLACES):
        place = start + tl.arange(0, PLACES)
        inside = place < last
        p = tl.load(p_at + place[None, :], mask=(row < group)[:, None] & inside[None, :], other=0.0)
        v = tl.load(
            v_at + place.to(tl.int64)[:, None] * v_place + col[None, :],
            mask=inside[:, None] & (col < size)[None, :], other=0.0,
        )  # fmt: skip
        if WIDEN:
            p, v = p.to(tl.float32), v.to(tl.float32)
        total = tl.dot(p, v, total, input_precision=PRECISION)
    to = (one.to(tl.int64) * tl.num_programs(1) + split) * group
    tl.store(
        y_ptr + (to + row)[:, None] * size + col[None, :], total, mask=(row < group)[:, None] & (col < size)[None, :]
    )


def splits(pairs: int, places: int, block: int, device: torch.device, waves: int) -> int:
    """Stretches that make about `waves` programs a multiprocessor, none shorter than four blocks."""
    wanted = -(-waves * multiprocessors(device) // pairs)
    return max(1, min(wanted, places // (4 * block)))


@kernel_op
def weigh(p: torch.Tensor, v: torch.Tensor, heads: torch.Tensor | None = None) -> torch.Tensor:
    """As reference.shared_softmax_attention; v may be a view of a longer cache. Without gradients."""
    refuse_double(v)
    layers = v if v.dim() == 5 else v[None]
    if layers.stride(-1) != 1:
        layers = layers.contiguous()
    count, batch, shared, places, size = layers.shape
    group = (p.shape[1] if heads is None else len(heads)) // shared
    tile = tuned("shared_softmax_attention", "weigh", v.device, places, v.dtype)
    pairs = count * batch * shared
    cut = splits(pairs, places, tile["PLACES"], v.device, tile["waves"])
    stretch = triton.cdiv(triton.cdiv(places, cut), tile["PLACES"]) * tile["PLACES"]
    cut = max(1, triton.cdiv(places, stretch))
    y = torch.empty(count, batch, shared, cut, group, size, dtype=torch.float32, device=v.device)
    p = p.to(v.dtype).contiguous()
    if pairs:
        launch(
            weigh_kernel, (pairs, cut), p, layers, p if heads is None else heads, y, places, stretch, batch * shared,
            size, group, *layers.stride()[:4], shared, p.shape[1], MAPPED=heads is not None,
            GROUP=max(ROWS, triton.next_power_of_2(group)), PLACES=tile["PLACES"],
            SIZE=max(16, triton.next_power_of_2(size)), WIDEN=interpreting() and v.dtype != torch.float32,
            PRECISION="ieee" if v.dtype == torch.float32 else "tf32", num_warps=tile["num_warps"],
            num_stages=tile["num_stages"],
        )  # fmt: skip
    summed = y.sum(3) if cut > 1 else y[:, :, :, 0]
    out = summed.to(v.dtype).view(count, batch, shared * group, 1, size)
    return out if v.dim() == 5 else out[0]


def shared_softmax_attention(p: torch.Tensor, v: torch.Tensor, heads: torch.Tensor | None = None) -> torch.Tensor:
    """As reference.shared_softmax_attention."""
    y: torch.Tensor = weigh(p, v, heads)
    return y
