"""Rotary position embeddings of q [rows, heads, tokens, size] and k [rows, shared, tokens, size]."""

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
    elements,
    grid,
    itemsize,
    pointers,
    uniform,
)
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.rope"


class RopeSpec(Spec):
    """Inputs q, k, cos, sin; outputs q and k turned.

    The case's `tables` are the tables' heads (1, or `shared`: HARPE), `own` is 1 where each row has its own (padding).
    q and k are views of [rows, tokens, heads, size], as the projections leave them.
    """

    name = "rope"
    summary = "q and k turned by their positions"
    implementations = (
        Implementation("reference", f"{HERE}.reference:rope"),
        Implementation("ours", f"{HERE}.triton:rope", ("triton",), cuda=True, own=True),
        Implementation("torch.compile", f"{HERE}.reference:rope", compiled=True),
        Implementation("liger", f"{HERE}.rivals:liger_rope", ("liger_kernel",), cuda=True),
    )
    differentiable = (0, 1)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Heads of 8B models, with one table and with one for each key-value head."""
        if sizes == "odd":
            shapes = [
                (2, 6, 3, 42, 6, 1, 0),
                (1, 4, 4, 123, 42, 4, 0),
                (2, 6, 2, 9, 64, 2, 1),
                (1, 431, 431, 2, 6, 1, 1),
            ]
        elif sizes == "small":
            shapes = [(1, 16, 4, 512, 64, 1, 0), (1, 16, 4, 512, 64, 4, 0)]
        else:
            shapes = [(2, 32, 8, 8192, 128, 1, 0), (2, 32, 8, 8192, 128, 8, 0), (4, 64, 8, 4096, 128, 1, 1)]
        names = ("rows", "heads", "shared", "tokens", "size", "tables", "own")
        return [case(**dict(zip(names, shape, strict=True))) for shape in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """q and k normal, angles all over the circle."""
        rows, tokens, size = case["rows"], case["tokens"], case["size"]

        def made(heads: int) -> torch.Tensor:
            drawn = torch.randn(rows, tokens, heads, size, generator=generator, device=generator.device)
            return drawn.to(device=device, dtype=dtype).transpose(1, 2)

        q, k = made(case["heads"]), made(case["shared"])
        angles = uniform(generator, rows if case["own"] else 1, case["tables"], tokens, size // 2) * 6.2832
        return q, k, angles.cos().to(device=device, dtype=dtype), angles.sin().to(device=device, dtype=dtype)

    def flops(self, case: Case, direction: Direction) -> float:
        """3 an element, in each direction."""
        return 3 * self._elements(case) * (1 if direction == "forward" else 2)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """q and k in and out, and the tables once, in each direction."""
        rows = case["rows"] if case["own"] else 1
        tables = elements(rows, case["tables"], case["tokens"], case["size"])
        return (2 * self._elements(case) + tables) * itemsize(dtype) * (1 if direction == "forward" else 2)

    @staticmethod
    def _elements(case: Case) -> int:
        return elements(case["rows"], case["heads"] + case["shared"], case["tokens"], case["size"])

    def tunings(self) -> Mapping[str, Tuning]:
        """Warps of a token; the backward pass is the same kernel."""
        return {"token": Tuning(grid(num_warps=(1, 2, 4, 8)))}

    def tuned_size(self, case: Case) -> int:
        """Elements of a token of q."""
        return case["heads"] * case["size"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """32 and 64 query heads of 128, 8 key-value heads; and 14 and 2 of 64."""
        from llmtool.core.kernels.rope.triton import rope_kernel

        addresses = pointers("bf16", "q_ptr", "k_ptr", "q_out_ptr", "k_out_ptr", "cos_ptr", "sin_ptr")
        whose = ("q", "k", "qo", "ko", "cos", "sin")
        strides = {f"{tensor}_{kind}": "i32" for tensor in whose for kind in ("row", "head", "token")}
        sizes = dict.fromkeys(("tokens", "q_heads", "k_heads", "half", "sign"), "i32")
        return [
            CompileConfig(
                f"{heads} and {shared} heads of {size}",
                rope_kernel,
                {**addresses, **strides, **sizes},
                {"Q_HEADS": width, "K_HEADS": shared, "HALF": size // 2},
                divisible=(*addresses, *strides, "half"),
                num_warps=lookup("rope", "token", (), heads * size)["num_warps"],
                wide_loads=True,
            )
            for heads, width, shared, size in ((32, 32, 8, 128), (64, 64, 8, 128), (14, 16, 2, 64))
        ]


SPEC = RopeSpec()
