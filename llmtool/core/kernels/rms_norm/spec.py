"""RMSNorm over the last dimension of x [rows, width]."""

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

HERE = "llmtool.core.kernels.rms_norm"
EPS = 1e-5


class RMSNormSpec(Spec):
    """Inputs x [rows, width], weight [width], eps; output y [rows, width]."""

    name = "rms_norm"
    summary = "x / sqrt(mean(x^2) + eps) * weight"
    implementations = (
        Implementation("reference", f"{HERE}.reference:rms_norm"),
        Implementation("ours", f"{HERE}.triton:rms_norm", ("triton",), cuda=True, own=True),
        Implementation("F.rms_norm", f"{HERE}.rivals:torch_rms_norm"),
        Implementation("torch.compile", f"{HERE}.reference:rms_norm", compiled=True),
        Implementation("liger", f"{HERE}.rivals:liger_rms_norm", ("liger_kernel",), cuda=True),
    )
    differentiable = (0, 1)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Widths of heads (64, 128) and of models."""
        if sizes == "odd":
            shapes = [(1, 6), (42, 123), (431, 42), (6, 431), (32, 128), (3, 1024)]
        elif sizes == "small":
            shapes = [(4096, 128), (1024, 1024), (512, 4096)]
        else:
            shapes = [(1048576, 128), (65536, 2048), (32768, 4096), (16384, 8192), (32768, 5120)]
        return [case(rows=rows, width=width) for rows, width in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """x normal, weight about 1."""
        x = draw(generator, case["rows"], case["width"], dtype=dtype, device=device)
        weight = draw(generator, case["width"], dtype=torch.float32, device=device, scale=0.3) + 1
        return x, weight.to(dtype), EPS

    def flops(self, case: Case, direction: Direction) -> float:
        """4 an element forward, 9 more backward."""
        return elements(case["rows"], case["width"]) * (4 if direction == "forward" else 13)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """x, y; backward x, dy, dx."""
        return elements(case["rows"], case["width"]) * itemsize(dtype) * (2 if direction == "forward" else 5)

    def tunings(self) -> Mapping[str, Tuning]:
        """Rows a program and warps for them."""
        return {
            "forward": Tuning(grid(ROWS=(1, 2, 4, 8, 16), num_warps=(2, 4, 8, 16))),
            "backward": Tuning(grid(ROWS=(1, 2, 4, 8), num_warps=(4, 8, 16, 32), programs=(1, 2, 4)), "training"),
        }

    def compile_configs(self) -> Sequence[CompileConfig]:
        """The widths of 8B models and of a head."""
        from llmtool.core.kernels.rms_norm.triton import backward_kernel, forward_kernel

        half, shape = pointers("bf16", "x_ptr", "weight_ptr"), {"rows": "i32", "width": "i32"}
        forward = {**half, **pointers("bf16", "y_ptr"), **pointers("fp32", "rstd_ptr"), **shape, "eps": "fp32"}
        sums = pointers("fp32", "rstd_ptr", "partial_ptr")
        backward = {**half, **pointers("bf16", "dy_ptr", "dx_ptr"), **sums, **shape}
        made = []
        for width in (4096, 128, 8192):
            for name, kernel, signature in (
                ("forward", forward_kernel, forward),
                ("backward", backward_kernel, backward),
            ):
                tile = lookup("rms_norm", name, (), width)
                made.append(
                    CompileConfig(
                        f"{name} {width}",
                        kernel,
                        signature,
                        {"ROWS": tile["ROWS"], "COLS": width},
                        divisible=(*(argument for argument in signature if argument.endswith("_ptr")), "width"),
                        num_warps=tile["num_warps"],
                        wide_loads=True,
                    )
                )
        return made


SPEC = RMSNormSpec()
