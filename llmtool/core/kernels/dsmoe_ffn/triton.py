"""Launches: which form runs for how many tokens, and its buffers.

up to 8 tokens      decode: the open blocks' weights are read once
up to 600           masked: the union of the open blocks of 8 tokens and more is nearly all (97% at 8), and tiles of 128
                    rows would be mostly empty; nothing can be gained there, and the dense product is the fastest
above               prefill
The limits stand in tuning.json and are reasoned, not measured, where the device is not in it.
"""

import torch
import triton

from llmtool.core.kernels.dsmoe_ffn import triton_decode, triton_prefill
from llmtool.core.kernels.dsmoe_ffn.reference import Result, masked
from llmtool.core.kernels.launch import interpreting
from llmtool.core.kernels.operators import autocast, kernel_op, launch, refuse_double
from llmtool.core.kernels.tuning import aligned, tuned

OP = "dsmoe_ffn"
FEW = 16
"""Rows of the smallest product that tensor cores do."""
CHUNK = 8192
"""Tokens of one pass of prefill: its buffer of outputs is as large as if every expert were open for every token."""


def dsmoe_ffn(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """As reference.dsmoe_ffn, for inference; under autocast the products in its type, the gates as they are."""
    gate, up, down = autocast(gate, up, down)
    made: Result = by_tokens(x, gate, up, down, router, bias, tau, scale, unit)
    return made


@kernel_op
def by_tokens(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """The form that suits the number of tokens."""
    refuse_double(x, gate)
    limits = tuned(OP, "dispatch", x.device, gate.shape[0])
    if len(x) <= limits["decode"]:
        few: Result = decode(x, gate, up, down, router, bias, tau, scale, unit)
        return few
    if len(x) < limits["prefill"]:
        return masked(x.to(gate.dtype), gate, up, down, router, bias, tau, scale, unit)
    pieces: list[Result] = [
        prefill(piece, gate, up, down, router, bias, tau, scale, unit) for piece in torch.split(x, CHUNK)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return torch.cat([delta for delta, _ in pieces]), torch.cat([gates for _, gates in pieces])


def routed(
    x: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool,
    kernel: str,
) -> Result:
    """G and w of x [N, d], both [N, n] in float32; the router may be of another type than x."""
    if router.dtype != x.dtype:
        x, router = x.float(), router.float()
    tokens, width = x.shape
    experts = router.shape[0]
    gates = torch.empty(tokens, experts, dtype=torch.float32, device=x.device)
    weights = torch.empty_like(gates)
    tile = tuned(OP, kernel, x.device, width, x.dtype, whole=aligned(width))
    launch(
        triton_prefill.route_kernel, (triton.cdiv(tokens, tile["ROWS"]),), x, router,
        router if bias is None else bias, gates, weights, tokens, width, experts, tau, scale,
        ROWS=tile["ROWS"], COLS=tile["COLS"], EXPERTS=max(16, triton.next_power_of_2(experts)), BIAS=bias is not None,
        UNIT=unit, UPCAST=interpreting(), num_warps=tile["num_warps"],
    )  # fmt: skip
    return gates, weights


@kernel_op
def decode(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """Any number of tokens, FEW at a time."""
    refuse_double(x, gate)
    if len(x) > FEW:
        pieces = [decode(piece, gate, up, down, router, bias, tau, scale, unit) for piece in torch.split(x, FEW)]
        return torch.cat([delta for delta, _ in pieces]), torch.cat([gates for _, gates in pieces])
    x = x.contiguous()
    (tokens, width), experts = x.shape, router.shape[0]
    size = gate.shape[0] // experts
    gates, weights = routed(x, router, bias, tau, scale, unit, "decode_route")
    x = x.to(gate.dtype)
    a = torch.empty(tokens, experts * size, dtype=x.dtype, device=x.device)
    delta = torch.empty_like(x)
    if not tokens:
        return delta, gates
    rows = 1 if tokens == 1 else FEW
    for kernel, name, across, arguments in (
        (triton_decode.up_kernel, "up", size, (x, gate, up, weights, a)),
        (triton_decode.down_kernel, "down", width, (a, down, weights, delta)),
    ):
        count = "one" if rows == 1 else "few"
        tile = tuned(OP, f"decode_{name}_{count}", x.device, width, x.dtype, whole=aligned(width, size))
        programs = triton.cdiv(across, tile["COLS"])
        launch(
            kernel, (experts, programs) if name == "up" else (programs,), *arguments, tokens, width, size, experts,
            TOKENS=rows, COLS=tile["COLS"], DEPTH=tile["DEPTH"],
            UPCAST=interpreting(), num_warps=tile["num_warps"], num_stages=tile["num_stages"],
        )  # fmt: skip
    return delta, gates


@kernel_op
def prefill(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    router: torch.Tensor,
    bias: torch.Tensor | None,
    tau: float,
    scale: float,
    unit: bool = False,
) -> Result:
    """Any number of tokens; buffers are those of the worst case."""
    refuse_double(x, gate)
    x = x.contiguous()
    (tokens, width), experts = x.shape, router.shape[0]
    size = gate.shape[0] // experts
    gates, weights = routed(x, router, bias, tau, scale, unit, "prefill_route")
    x = x.to(gate.dtype)
    delta = torch.empty_like(x)
    if not tokens:
        return delta, gates
    lists = torch.empty(experts, tokens, dtype=torch.int32, device=x.device)
    counts = torch.empty(experts, dtype=torch.int32, device=x.device)
    places = torch.empty(tokens, experts, dtype=torch.int32, device=x.device)
    a = torch.empty(tokens * experts, size, dtype=x.dtype, device=x.device)
    o = torch.empty(tokens * experts, width, dtype=x.dtype, device=x.device)
    tile = tuned(OP, "list", x.device, width, x.dtype)
    launch(
        triton_prefill.list_kernel, (experts,), weights, lists, counts, places, tokens, experts, ROWS=tile["ROWS"],
        num_warps=tile["num_warps"],
    )  # fmt: skip
    for kernel, name, across, deep, arguments in (
        (triton_prefill.up_kernel, "up", size, width, (x, gate, up, weights, lists, counts, a, tokens)),
        (triton_prefill.down_kernel, "down", width, size, (a, down, counts, o)),
    ):
        tile = tuned(OP, f"prefill_{name}", x.device, width, x.dtype, whole=aligned(width, size))
        depth = max(16, tile["DEPTH"] * 2 // x.element_size())  # as many bytes of shared memory for float32
        per_expert = triton.cdiv(tokens, tile["ROWS"]) * triton.cdiv(across, tile["COLS"])
        launch(
            kernel, (experts * per_expert,), *arguments, width, size, experts, per_expert,
            ROWS=tile["ROWS"], COLS=tile["COLS"], DEPTH=depth, EXPERTS=triton.next_power_of_2(experts),
            GROUP=tile["GROUP"], EVEN=deep % depth == 0, UPCAST=interpreting(),
            num_warps=tile["num_warps"], num_stages=tile["num_stages"],
        )  # fmt: skip
    tile = tuned(OP, "sum", x.device, width, x.dtype)
    launch(
        triton_prefill.sum_kernel, (tokens, triton.cdiv(width, tile["COLS"])), o, places, counts, delta, width, experts,
        COLS=tile["COLS"], num_warps=tile["num_warps"],
    )  # fmt: skip
    return delta, gates
