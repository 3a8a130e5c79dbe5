"""Grouped matrix products: x [rows, width] sorted by group, weight [groups, out, width], ends [groups]."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

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

HERE = "llmtool.core.kernels.grouped_gemm"


class GroupedGemmSpec(Spec):
    """Inputs x, weight, ends; output [rows, out]. Groups are of unequal size, the second of three or more is empty."""

    name = "grouped_gemm"
    summary = "rows of each group times the group's matrix"
    implementations = (
        Implementation("reference", f"{HERE}.reference:grouped_gemm"),
        Implementation("ours", f"{HERE}.triton:grouped_gemm", ("triton",), cuda=True, own=True),
        Implementation("torch._grouped_mm", f"{HERE}.rivals:torch_grouped_mm"),
    )
    differentiable = (0, 1)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Experts of DeepSeek's, Mixtral's and OLMoE's kind."""
        if sizes == "odd":
            shapes = [(6, 3, 42, 6), (123, 5, 17, 42), (42, 1, 123, 33), (64, 2, 32, 128)]
        elif sizes == "small":
            shapes = [(1024, 8, 512, 256)]
        else:
            shapes = [(32768, 8, 14336, 4096), (65536, 64, 1024, 2048), (32768, 64, 1408, 2048)]
        return [case(rows=n, groups=g, out=out, width=width) for n, g, out, width in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """x normal, weight so that the output is too."""
        rows, groups, out, width = (case[name] for name in ("rows", "groups", "out", "width"))
        x = draw(generator, rows, width, dtype=dtype, device=device)
        weight = draw(generator, groups, out, width, dtype=dtype, device=device, scale=width**-0.5)
        return x, weight, draw_ends(generator, rows, groups).to(device)

    def flops(self, case: Case, direction: Direction) -> float:
        """One product forward, two more backward."""
        return 2 * elements(case["rows"], case["out"], case["width"]) * (1 if direction == "forward" else 3)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """x, weight, y; backward these three (dy for y) and the gradients of the first two."""
        x, y = case["rows"] * case["width"], case["rows"] * case["out"]
        weight = elements(case["groups"], case["out"], case["width"])
        once = x + weight + y
        return itemsize(dtype) * (once if direction == "forward" else 2 * once + x + weight)

    def tunings(self) -> Mapping[str, Tuning]:
        """Tiles and warps for them; of a product's K loop its two tiles stand in shared memory once a stage."""
        rows = grid(
            ROWS=(64, 128), OUTS=(128, 256), DEPTH=(32, 64, 128), SWIZZLE=(8,), num_warps=(4, 8), num_stages=(3, 4)
        )
        weight = grid(ROWS=(32, 64), OUTS=(128,), DEPTH=(128, 256), num_warps=(4, 8), num_stages=(3, 4))
        return {
            "rows": Tuning(rows, shared=tiles(("ROWS", "DEPTH"), ("OUTS", "DEPTH"))),
            "weight": Tuning(weight, "training", shared=tiles(("ROWS", "OUTS"), ("ROWS", "DEPTH"))),
        }

    def tuned_size(self, case: Case) -> int:
        """Columns of the product."""
        return case["out"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """Forward, the gradient of x (strides exchanged), the gradient of the weight."""
        from llmtool.core.kernels.grouped_gemm.triton import rows_kernel, weight_kernel

        ends = pointers("i32", "ends_ptr")
        sizes = dict.fromkeys(("rows", "groups", "outs", "depth", "weight_group", "weight_out", "weight_in"), "i32")
        product = {**pointers("bf16", "x_ptr", "weight_ptr", "y_ptr"), **ends, **sizes}
        aligned = tuple(name for name in product if name not in ("rows", "groups"))
        gradient = {**pointers("bf16", "x_ptr", "dy_ptr", "dweight_ptr"), **ends, "outs": "i32", "depth": "i32"}
        made = []
        for arch in ARCHITECTURES:
            # A stride of 1 is compiled in, as a launch does.
            made.append(
                matrix("rows", arch, rows_kernel, product, aligned, {"GROUPS": 64, "EVEN": True, "weight_in": 1})
            )
            made.append(matrix("weight", arch, weight_kernel, gradient, tuple(gradient), {}))
            made.append(
                matrix("rows", arch, rows_kernel, product, aligned, {"GROUPS": 64, "EVEN": True, "weight_out": 1})
            )
        return made


def draw_ends(generator: torch.Generator, rows: int, groups: int) -> torch.Tensor:
    """Ends of random groups, int32 [groups]; of three or more the second is empty."""
    group = torch.randint(groups, (rows,), generator=generator, device=generator.device)
    if groups > 2:
        group[group == 1] = 0
    return torch.bincount(group, minlength=groups).cumsum(0).to(torch.int32)


def matrix(
    name: str,
    arch: str,
    kernel: Any,
    signature: Mapping[str, str],
    aligned: Sequence[str],
    constants: Mapping[str, int],
) -> CompileConfig:
    """A configuration of one architecture, from its rows in tuning.json."""
    tile = lookup("grouped_gemm", name, (arch,), 14336)
    warps, stages = tile.pop("num_warps"), tile.pop("num_stages")
    turned = ", transposed" if "weight_out" in constants else ""
    return CompileConfig(
        name + turned,
        kernel,
        {argument: kind for argument, kind in signature.items() if argument not in constants},
        {**tile, **constants, "WIDEN": False, "PRECISION": "tf32"},
        tuple(argument for argument in aligned if argument not in constants),
        num_warps=warps,
        num_stages=stages,
        archs=(arch,),
        tensor_cores=True,
        wide_loads=True,
        max_issue=1.0,
    )


SPEC = GroupedGemmSpec()
