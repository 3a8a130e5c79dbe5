"""An op for the tests of the benchmark: y = 2 x, whose "ours" is right or, on demand, wrong."""

from collections.abc import Sequence
from typing import Any

import torch

from llmtool.core.kernels.spec import (
    Case,
    CompileConfig,
    Direction,
    Implementation,
    Sizes,
    Spec,
    case,
    draw,
    elements,
    itemsize,
)

FACTOR = 2.0
"""What "ours" multiplies with; a test plants an error here."""


def reference(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def ours(x: torch.Tensor) -> torch.Tensor:
    return x * FACTOR


def crashes(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no such kernel image")


class Planted(Spec):
    name = "planted"
    summary = "2 x"
    implementations = (
        Implementation("reference", f"{__name__}:reference"),
        Implementation("ours", f"{__name__}:ours", own=True),
        Implementation("crashes", f"{__name__}:crashes"),
        Implementation("gone", f"{__name__}:gone"),
        Implementation("absent", f"{__name__}:ours", packages=("no_such_package",)),
        Implementation("gpu", f"{__name__}:ours", cuda=True),
    )
    differentiable = (0,)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        return [case(rows=42, width=6)] if sizes == "odd" else [case(rows=64, width=128), case(rows=3, width=123)]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        return (draw(generator, case["rows"], case["width"], dtype=dtype, device=device),)

    def flops(self, case: Case, direction: Direction) -> float:
        return elements(case["rows"], case["width"])

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        return 2 * elements(case["rows"], case["width"]) * itemsize(dtype)

    def compile_configs(self) -> Sequence[CompileConfig]:
        return []


SPEC = Planted()
