"""silu(gate) * up of two [rows, width]."""

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
)
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.swiglu"


class SwiGLUSpec(Spec):
    """Inputs gate and up [rows, width]; output [rows, width]."""

    name = "swiglu"
    summary = "silu(gate) * up"
    implementations = (
        Implementation("reference", f"{HERE}.reference:swiglu"),
        Implementation("ours", f"{HERE}.triton:swiglu", ("triton",), cuda=True, own=True),
        Implementation("torch.compile", f"{HERE}.reference:swiglu", compiled=True),
        Implementation("liger", f"{HERE}.rivals:liger_swiglu", ("liger_kernel",), cuda=True, spoils=True),
    )
    differentiable = (0, 1)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Inner widths of models from 0.5B to 70B."""
        if sizes == "odd":
            shapes = [(1, 6), (42, 123), (431, 42), (6, 431), (16, 512)]
        elif sizes == "small":
            shapes = [(512, 2048), (256, 11008)]
        else:
            shapes = [(32768, 4864), (16384, 14336), (8192, 28672)]
        return [case(rows=rows, width=width) for rows, width in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """Normal, the gate of deviation 2 so that both ends of silu are met."""
        shape = case["rows"], case["width"]
        gate = draw(generator, *shape, dtype=dtype, device=device, scale=2.0)
        return gate, draw(generator, *shape, dtype=dtype, device=device)

    def flops(self, case: Case, direction: Direction) -> float:
        """5 an element forward, 11 more backward."""
        return elements(case["rows"], case["width"]) * (5 if direction == "forward" else 16)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """gate, up, y; backward gate, up, dy, dgate, dup."""
        return elements(case["rows"], case["width"]) * itemsize(dtype) * (3 if direction == "forward" else 8)

    def tunings(self) -> Mapping[str, Tuning]:
        """Elements a program and warps for them."""
        blocks = grid(BLOCK=(1024, 2048, 4096, 8192), num_warps=(4, 8, 16))
        return {"forward": Tuning(blocks), "backward": Tuning(blocks, "training")}

    def compile_configs(self) -> Sequence[CompileConfig]:
        """One of each: the kernels do not depend on a shape."""
        from llmtool.core.kernels.swiglu.triton import backward_kernel, forward_kernel

        inputs = pointers("bf16", "gate_ptr", "up_ptr")
        made = []
        for name, kernel, others in (
            ("forward", forward_kernel, pointers("bf16", "y_ptr")),
            ("backward", backward_kernel, pointers("bf16", "dy_ptr", "dgate_ptr", "dup_ptr")),
        ):
            tile = lookup("swiglu", name, (), 14336)
            made.append(
                CompileConfig(
                    name,
                    kernel,
                    {**inputs, **others, "count": "i32"},
                    {"BLOCK": tile["BLOCK"]},
                    divisible=(*inputs, *others, "count"),
                    num_warps=tile["num_warps"],
                    wide_loads=True,
                )
            )
        return made


SPEC = SwiGLUSpec()
