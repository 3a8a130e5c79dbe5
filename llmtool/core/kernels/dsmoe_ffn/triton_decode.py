"""Few tokens: each program takes a slice of one expert and leaves at once where no token opens it.

Three launches (route_kernel, up_kernel, down_kernel), grids known to the host, no synchronisation: a CUDA graph
can hold them. Bound by the bytes of the open blocks' weights.
"""

import triton
import triton.language as tl


@triton.jit
def up_kernel(
    x_ptr, gate_ptr, up_ptr, weights_ptr, a_ptr, tokens, width, size, experts,
    TOKENS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """a = w silu(x gate^T) (x up^T): COLS channels of one expert, for all tokens; a [tokens, experts size].

    One token: products are summed by lanes. More: 16 rows of the tensor cores, most of them empty, which costs nothing
    where memory is what is waited for. Channels of an expert that no token opens are not written, nor read later.
    """
    expert = tl.program_id(0)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    row = tl.arange(0, TOKENS)
    weight = tl.load(weights_ptr + row * experts + expert, mask=row < tokens, other=0.0)
    if tl.max(weight, 0) <= 0:
        return
    deep = tl.arange(0, DEPTH)
    channel = (expert * size + tl.minimum(col, size - 1)).to(tl.int64)
    if TOKENS == 1:
        g2 = tl.zeros((COLS, DEPTH), tl.float32)
        u2 = tl.zeros((COLS, DEPTH), tl.float32)
        for start in range(0, width, DEPTH):
            inside = start + deep < width
            at = channel[:, None] * width + (start + deep)[None, :]
            x = tl.load(x_ptr + start + deep, mask=inside, other=0.0).to(tl.float32)[None, :]
            g2 += tl.load(gate_ptr + at, mask=inside[None, :], other=0.0).to(tl.float32) * x
            u2 += tl.load(up_ptr + at, mask=inside[None, :], other=0.0).to(tl.float32) * x
        g = tl.sum(g2, 1)[None, :]
        u = tl.sum(u2, 1)[None, :]
    else:
        g = tl.zeros((TOKENS, COLS), tl.float32)
        u = tl.zeros((TOKENS, COLS), tl.float32)
        for start in range(0, width, DEPTH):
            inside = start + deep < width
            at = channel[None, :] * width + (start + deep)[:, None]
            x = tl.load(
                x_ptr + row[:, None] * width + (start + deep)[None, :],
                mask=(row < tokens)[:, None] & inside[None, :], other=0.0,
            )  # fmt: skip
            gate = tl.load(gate_ptr + at, mask=inside[:, None], other=0.0)
            up = tl.load(up_ptr + at, mask=inside[:, None], other=0.0)
            if UPCAST:
                x = x.to(tl.float32)
                gate = gate.to(tl.float32)
                up = up.to(tl.float32)
            g = tl.dot(x, gate, g, input_precision="ieee")
            u = tl.dot(x, up, u, input_precision="ieee")
    # where, not a product: an activation that overflows must not spoil a token that does not open this expert.
    a = tl.where(weight[:, None] > 0, g / (1.0 + tl.exp(-g)) * u * weight[:, None], 0.0)
    at = row[:, None].to(tl.int64) * experts * size + expert * size + col[None, :]
    tl.store(
        a_ptr + at, a.to(a_ptr.dtype.element_ty), mask=(row < tokens)[:, None] & (col < size)[None, :]
    )  # fmt: skip


@triton.jit
def down_kernel(
    a_ptr, down_ptr, weights_ptr, delta_ptr, tokens, width, size, experts,
    TOKENS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """delta = a down^T, COLS columns of all tokens: experts that no token opens are passed over."""
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    row = tl.arange(0, TOKENS)
    deep = tl.arange(0, DEPTH)
    channels = experts.to(tl.int64) * size
    line = tl.minimum(col, width - 1).to(tl.int64) * channels
    if TOKENS == 1:
        d2 = tl.zeros((COLS, DEPTH), tl.float32)
        for expert in range(experts):
            if tl.load(weights_ptr + expert) > 0:
                for start in range(0, size, DEPTH):
                    inside = start + deep < size
                    channel = expert * size + start + deep
                    a = tl.load(a_ptr + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
                    down = tl.load(down_ptr + line[:, None] + channel[None, :], mask=inside[None, :], other=0.0)
                    d2 += down.to(tl.float32) * a
        delta = tl.sum(d2, 1)[None, :]
    else:
        delta = tl.zeros((TOKENS, COLS), tl.float32)
        for expert in range(experts):
            weight = tl.load(weights_ptr + row * experts + expert, mask=row < tokens, other=0.0)
            if tl.max(weight, 0) > 0:
                for start in range(0, size, DEPTH):
                    inside = start + deep < size
                    channel = expert * size + start + deep
                    a = tl.load(
                        a_ptr + row[:, None] * channels + channel[None, :],
                        mask=(row < tokens)[:, None] & inside[None, :], other=0.0,
                    )  # fmt: skip
                    down = tl.load(down_ptr + line[None, :] + channel[:, None], mask=inside[:, None], other=0.0)
                    if UPCAST:
                        a = a.to(tl.float32)
                        down = down.to(tl.float32)
                    delta = tl.dot(a, down, delta, input_precision="ieee")
    tl.store(
        delta_ptr + row[:, None] * width + col[None, :], delta.to(delta_ptr.dtype.element_ty),
        mask=(row < tokens)[:, None] & (col < width)[None, :],
    )  # fmt: skip
