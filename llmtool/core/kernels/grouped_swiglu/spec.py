"""The first half of experts: x [rows, width] sorted by group, gate and up [groups, inner, width], ends [groups]."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmtool.core.kernels.grouped_gemm.spec import draw_ends
from llmtool.core.kernels.spec import (
    ARCHITECTURES,
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
    tiles,
)
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.grouped_swiglu"


class GroupedSwiGLUSpec(Spec):
    """Inputs x, gate, up, ends; output [rows, inner]."""

    name = "grouped_swiglu"
    summary = "silu(x gate) * (x up) for the rows of each group"
    implementations = (
        Implementation("reference", f"{HERE}.reference:grouped_swiglu"),
        Implementation("ours", f"{HERE}.triton:grouped_swiglu", ("triton",), cuda=True, own=True),
        Implementation("ours, unfused", f"{HERE}.rivals:unfused", ("triton",), cuda=True),
        Implementation("torch._grouped_mm", f"{HERE}.rivals:torch_grouped"),
    )
    differentiable = (0, 1, 2)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Experts of DeepSeek's, Mixtral's and OLMoE's kind."""
        if sizes == "odd":
            shapes = [(6, 3, 42, 6), (123, 5, 17, 42), (42, 1, 33, 64)]
        elif sizes == "small":
            shapes = [(1024, 8, 512, 256)]
        else:
            shapes = [(16384, 8, 14336, 4096), (65536, 64, 1024, 2048), (32768, 64, 1408, 2048)]
        return [case(rows=n, groups=g, inner=inner, width=width) for n, g, inner, width in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """x normal, weights so that gate and up are too."""
        rows, groups, inner, width = (case[name] for name in ("rows", "groups", "inner", "width"))
        x = draw(generator, rows, width, dtype=dtype, device=device)
        gate, up = (
            draw(generator, groups, inner, width, dtype=dtype, device=device, scale=width**-0.5) for _ in range(2)
        )
        return x, gate, up, draw_ends(generator, rows, groups).to(device)

    def tolerance(self, dtype: torch.dtype) -> float:
        """Gradients pass through one rounding more than a product's: of gate and up, of their gradients, of the sum."""
        return super().tolerance(dtype) * (1 if dtype == torch.float32 else 1.5)

    def flops(self, case: Case, direction: Direction) -> float:
        """Two products forward, four more backward."""
        return 4 * elements(case["rows"], case["inner"], case["width"]) * (1 if direction == "forward" else 3)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """x, both weights, y; backward these (dy for y), gate, up, and the gradients of the inputs."""
        x, y = case["rows"] * case["width"], case["rows"] * case["inner"]
        weights = 2 * elements(case["groups"], case["inner"], case["width"])
        once = x + weights + y
        return itemsize(dtype) * (once if direction == "forward" else 2 * once + 2 * y + x + weights)

    def tunings(self) -> Mapping[str, Tuning]:
        """Two accumulators: half of what a product's tile can be; "saving" is the forward pass of training."""
        each = grid(ROWS=(64, 128), OUTS=(64, 128), DEPTH=(32, 64), SWIZZLE=(8,), num_warps=(4, 8), num_stages=(3, 4))
        shared = tiles(("ROWS", "DEPTH"), ("OUTS", "DEPTH"), ("OUTS", "DEPTH"))
        return {"forward": Tuning(each, shared=shared), "saving": Tuning(each, "training", shared=shared)}

    def tuned_size(self, case: Case) -> int:
        """Columns of the product."""
        return case["inner"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """With what the backward pass needs, and without."""
        from llmtool.core.kernels.grouped_swiglu.triton import forward_kernel

        names = ("x_ptr", "gate_ptr", "up_ptr", "y_ptr", "gates_ptr", "ups_ptr")
        sizes = dict.fromkeys(("rows", "groups", "inner", "width"), "i32")
        signature = {**pointers("bf16", *names), **pointers("i32", "ends_ptr"), **sizes}
        made = []
        for save in (1, 0):
            for arch in ARCHITECTURES:
                tile = lookup("grouped_swiglu", "saving" if save else "forward", (arch,), 14336)
                warps, stages = tile.pop("num_warps"), tile.pop("num_stages")
                made.append(
                    CompileConfig(
                        "forward, saving" if save else "forward",
                        forward_kernel,
                        signature,
                        {**tile, "GROUPS": 64, "EVEN": True, "SAVE": bool(save), "WIDEN": False, "PRECISION": "tf32"},
                        divisible=(*names, "ends_ptr", "inner", "width"),
                        num_warps=warps,
                        num_stages=stages,
                        archs=(arch,),
                        tensor_cores=True,
                        wide_loads=True,
                        max_issue=1.0,
                    )
                )
        return made


SPEC = GroupedSwiGLUSpec()
