"""Many tokens: route, lists of each expert's tokens, two grouped products over gathered rows, and their sum by token.

Everything is decided on the device: the host launches grids for the worst case, and programs beyond a list's end leave
at once. 5 launches: route_kernel, list_kernel, up_kernel, down_kernel, sum_kernel.
"""

import triton
import triton.language as tl


@triton.jit
def route_kernel(
    x_ptr, router_ptr, bias_ptr, gates_ptr, weights_ptr, tokens, width, experts, tau, scale,
    ROWS: tl.constexpr, COLS: tl.constexpr, EXPERTS: tl.constexpr, BIAS: tl.constexpr,
    UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Each program gates ROWS tokens: G and w = scale n / #active G, [tokens, experts] in float32; UNIT: w = scale.

    The logits add up in float32. 16 rows and more go through the tensor cores, whose products of bfloat16 are exact.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    expert = tl.arange(0, EXPERTS)
    logits = tl.zeros((ROWS, EXPERTS), tl.float32)
    for start in range(0, width, COLS):
        col = start + tl.arange(0, COLS)
        x = tl.load(
            x_ptr + row[:, None] * width + col[None, :],
            mask=(row < tokens)[:, None] & (col < width)[None, :], other=0.0,
        )  # fmt: skip
        y = tl.load(
            router_ptr + expert[:, None] * width + col[None, :],
            mask=(expert < experts)[:, None] & (col < width)[None, :], other=0.0,
        )  # fmt: skip
        if UPCAST:
            x = x.to(tl.float32)
            y = y.to(tl.float32)
        if ROWS >= 16:
            logits = tl.dot(x, tl.trans(y), logits, input_precision="ieee")
        else:
            logits += tl.sum(x.to(tl.float32)[:, None, :] * y.to(tl.float32)[None, :, :], 2)
    if BIAS:
        logits += tl.load(bias_ptr + expert, mask=expert < experts, other=0.0).to(tl.float32)[None, :]
    g = 1.0 / (1.0 + tl.exp(-logits))
    active = (g > tau) & (expert < experts)[None, :]
    gates = tl.where(active, g, 0.0)
    if UNIT:
        weights = active.to(tl.float32) * scale
    else:
        count = tl.maximum(tl.sum(active.to(tl.int32), 1), 1)
        weights = gates * scale * (experts / count.to(tl.float32))[:, None]
    at = row[:, None] * experts + expert[None, :]
    inside = (row < tokens)[:, None] & (expert < experts)[None, :]
    tl.store(gates_ptr + at, gates, mask=inside)
    tl.store(weights_ptr + at, weights, mask=inside)


@triton.jit
def list_kernel(weights_ptr, lists_ptr, counts_ptr, places_ptr, tokens, experts, ROWS: tl.constexpr):
    """Program e lists the tokens that open expert e, ascending: lists [experts, tokens], counts [experts].

    places [tokens, experts]: a token's place in the expert's list, -1 where it is not in it. Ascending, so that two
    runs give the same bytes: an atomic counter would not.
    """
    expert = tl.program_id(0)
    count = 0
    for start in range(0, tokens, ROWS):
        row = start + tl.arange(0, ROWS)
        weight = tl.load(weights_ptr + row.to(tl.int64) * experts + expert, mask=row < tokens, other=0.0)
        on = (weight > 0).to(tl.int32)
        place = count + tl.cumsum(on, 0) - 1
        tl.store(lists_ptr + expert.to(tl.int64) * tokens + place, row, mask=on > 0)
        tl.store(places_ptr + row.to(tl.int64) * experts + expert, tl.where(on > 0, place, -1), mask=row < tokens)
        count += tl.sum(on, 0)
    tl.store(counts_ptr + expert, count)


@triton.jit
def first_pair(counts_ptr, expert, EXPERTS: tl.constexpr):
    """Where an expert's rows start among those of all."""
    index = tl.arange(0, EXPERTS)
    return tl.sum(tl.load(counts_ptr + index, mask=index < expert, other=0), 0).to(tl.int64)


@triton.jit
def tile_of(index, row_tiles, col_tiles, GROUP: tl.constexpr):
    """Row and column tile of a program: GROUP row tiles go through the columns together and share them in L2."""
    per_group = GROUP * col_tiles
    first = index // per_group * GROUP
    rows = tl.minimum(row_tiles - first, GROUP)
    return first + index % per_group % rows, index % per_group // rows


@triton.jit
def loaded(at, inside, EVEN: tl.constexpr):
    """A tile of the loop; EVEN: DEPTH divides the depth, and nothing has to be compared."""
    return tl.load(at) if EVEN else tl.load(at, mask=inside, other=0.0)


@triton.jit
def up_kernel(
    x_ptr, gate_ptr, up_ptr, weights_ptr, lists_ptr, counts_ptr, a_ptr, tokens, width, size, experts, per_expert,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, EXPERTS: tl.constexpr, GROUP: tl.constexpr,
    EVEN: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """a = w silu(x gate^T) (x up^T) of the gathered rows of one expert, a tile ROWS x COLS of a [pairs, size].

    gate, up [experts size, width]. per_expert: programs of each expert, enough for a list of all tokens.
    """
    expert = tl.program_id(0) // per_expert
    index = tl.program_id(0) % per_expert
    count = tl.load(counts_ptr + expert)
    row_tiles, col_tiles = tl.cdiv(count, ROWS), tl.cdiv(size, COLS)
    if index >= row_tiles * col_tiles:
        return
    row_tile, col_tile = tile_of(index, row_tiles, col_tiles, GROUP)
    row = row_tile * ROWS + tl.arange(0, ROWS)
    col = col_tile * COLS + tl.arange(0, COLS)
    # Rows past the end read the token of row 0, columns past it the last column: loads without a mask are wide.
    token = tl.load(lists_ptr + expert.to(tl.int64) * tokens + tl.where(row < count, row, 0)).to(tl.int64)
    channel = (expert * size + tl.minimum(col, size - 1)).to(tl.int64)
    deep = tl.arange(0, DEPTH)
    x_at = x_ptr + token[:, None] * width + deep[None, :]
    gate_at = gate_ptr + channel[None, :] * width + deep[:, None]
    up_at = up_ptr + channel[None, :] * width + deep[:, None]
    g = tl.zeros((ROWS, COLS), tl.float32)
    u = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, width, DEPTH):
        inside = start + deep < width
        x = loaded(x_at + start, inside[None, :], EVEN)
        gate = loaded(gate_at + start, inside[:, None], EVEN)
        up = loaded(up_at + start, inside[:, None], EVEN)
        if UPCAST:
            x = x.to(tl.float32)
            gate = gate.to(tl.float32)
            up = up.to(tl.float32)
        g = tl.dot(x, gate, g, input_precision="ieee")
        u = tl.dot(x, up, u, input_precision="ieee")
    weight = tl.load(weights_ptr + token * experts + expert)
    a = g / (1.0 + tl.exp(-g)) * u * weight[:, None]
    pair = first_pair(counts_ptr, expert, EXPERTS) + row
    tl.store(
        a_ptr + pair[:, None] * size + col[None, :], a.to(a_ptr.dtype.element_ty),
        mask=(row < count)[:, None] & (col < size)[None, :],
    )  # fmt: skip


@triton.jit
def down_kernel(
    a_ptr, down_ptr, counts_ptr, o_ptr, width, size, experts, per_expert,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, EXPERTS: tl.constexpr, GROUP: tl.constexpr,
    EVEN: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """o = a down_e^T, a tile ROWS x COLS of o [pairs, width]; down [width, experts size]."""
    expert = tl.program_id(0) // per_expert
    index = tl.program_id(0) % per_expert
    count = tl.load(counts_ptr + expert)
    row_tiles, col_tiles = tl.cdiv(count, ROWS), tl.cdiv(width, COLS)
    if index >= row_tiles * col_tiles:
        return
    row_tile, col_tile = tile_of(index, row_tiles, col_tiles, GROUP)
    row = row_tile * ROWS + tl.arange(0, ROWS)
    col = col_tile * COLS + tl.arange(0, COLS)
    pair = first_pair(counts_ptr, expert, EXPERTS) + row
    read = first_pair(counts_ptr, expert, EXPERTS) + tl.where(row < count, row, 0)
    deep = tl.arange(0, DEPTH)
    a_at = a_ptr + read[:, None] * size + deep[None, :]
    channels = experts.to(tl.int64) * size
    down_at = down_ptr + tl.minimum(col, width - 1).to(tl.int64)[None, :] * channels + (expert * size + deep)[:, None]
    o = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, size, DEPTH):
        inside = start + deep < size
        a = loaded(a_at + start, inside[None, :], EVEN)
        down = loaded(down_at + start, inside[:, None], EVEN)
        if UPCAST:
            a = a.to(tl.float32)
            down = down.to(tl.float32)
        o = tl.dot(a, down, o, input_precision="ieee")
    tl.store(
        o_ptr + pair[:, None] * width + col[None, :], o.to(o_ptr.dtype.element_ty),
        mask=(row < count)[:, None] & (col < width)[None, :],
    )  # fmt: skip


@triton.jit
def sum_kernel(o_ptr, places_ptr, counts_ptr, delta_ptr, width, experts, COLS: tl.constexpr):
    """delta of one token, COLS columns: the sum of its experts' rows of o, 0 where there is none."""
    token = tl.program_id(0).to(tl.int64)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    delta = tl.zeros((COLS,), tl.float32)
    first = tl.cast(0, tl.int64)
    for expert in range(experts):
        place = tl.load(places_ptr + token * experts + expert)
        at = o_ptr + (first + tl.maximum(place, 0)) * width + col
        delta += tl.load(at, mask=(col < width) & (place >= 0), other=0.0).to(tl.float32)
        first += tl.load(counts_ptr + expert)
    tl.store(delta_ptr + token * width + col, delta.to(delta_ptr.dtype.element_ty), mask=col < width)
