"""w_block silu(gate) up over gate, up [rows, inner] and weights [rows, experts]."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmtool.core.kernels.spec import (
    Case,
    CompileConfig,
    Direction,
    Implementation,
    Sizes,
    Spec,
    Tuning,
    case,
    draw,
    elements,
    grid,
    itemsize,
    pointers,
)  # fmt: skip
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.masked_swiglu"


class MaskedSwiGLUSpec(Spec):
    """Inputs gate, up [rows, inner], weights [rows, experts] in float32; output [rows, inner]."""

    name = "masked_swiglu"
    summary = "w_block silu(gate) up"
    implementations = (
        Implementation("reference", f"{HERE}.reference:masked_swiglu"),
        Implementation("ours", f"{HERE}.triton:masked_swiglu", ("triton",), cuda=True, own=True),
        Implementation("torch.compile", f"{HERE}.reference:masked_swiglu", compiled=True),
    )
    differentiable = (0, 1, 2)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """The blocks of Llama-2-7B (8 x 1376) and Llama-3.2-1B (8 x 1024)."""
        if sizes == "odd":
            shapes = [(1, 6, 2), (42, 123, 3), (6, 432, 8), (3, 512, 8), (31, 42, 1)]
        elif sizes == "small":
            shapes = [(512, 8192, 8), (256, 11008, 8)]
        else:
            shapes = [(16384, 8192, 8), (16384, 11008, 8)]
        return [case(rows=rows, inner=inner, experts=experts) for rows, inner, experts in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """About three of eight weights are not 0."""
        gate, up = (draw(generator, case["rows"], case["inner"], dtype=dtype, device=device) for _ in range(2))
        weights = draw(generator, case["rows"], case["experts"], dtype=torch.float32, device=device).abs() + 0.5
        drawn = draw(generator, case["rows"], case["experts"], dtype=torch.float32, device=device)
        kept = drawn > 0.32
        kept[0, 0] = True
        return gate, up, weights * kept

    def flops(self, case: Case, direction: Direction) -> float:
        """6 an element forward, 16 more backward."""
        return elements(case["rows"], case["inner"]) * (6 if direction == "forward" else 22)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """gate, up, y; backward gate, up, dy, dgate, dup. Blocks of weight 0 are counted forward as well."""
        return elements(case["rows"], case["inner"]) * itemsize(dtype) * (3 if direction == "forward" else 8)

    def tunings(self) -> Mapping[str, Tuning]:
        """Channels at a time and warps for them."""
        blocks = grid(COLS=(512, 1024, 2048), num_warps=(2, 4, 8))
        return {"forward": Tuning(blocks), "backward": Tuning(blocks, "training")}

    def tuned_size(self, case: Case) -> int:
        """Channels of all blocks."""
        return case["inner"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """Blocks of 1,376 and 1,024 channels."""
        from llmtool.core.kernels.masked_swiglu.triton import backward_kernel, forward_kernel

        half, weights = pointers("bf16", "gate_ptr", "up_ptr"), pointers("fp32", "weights_ptr")
        shape = {"size": "i32", "experts": "i32"}
        forward = {**half, **weights, **pointers("bf16", "y_ptr"), **shape}
        backward = {
            **half, **weights, **pointers("bf16", "dy_ptr", "dgate_ptr", "dup_ptr"), **pointers("fp32", "dweights_ptr"),
            **shape,
        }  # fmt: skip
        made = []
        for name, kernel, signature in (("forward", forward_kernel, forward), ("backward", backward_kernel, backward)):
            tile = lookup("masked_swiglu", name, (), 11008)
            divisible = (*(argument for argument in signature if argument.endswith("_ptr")), "size")
            made.append(
                CompileConfig(
                    name, kernel, signature, {"COLS": tile["COLS"]}, divisible, tile["num_warps"], wide_loads=True
                )
            )
        return made


SPEC = MaskedSwiGLUSpec()
