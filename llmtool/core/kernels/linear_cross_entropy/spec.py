"""Cross-entropy of an output layer: h [tokens, width], weight [vocabulary, width], labels [tokens]."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmtool.core.kernels.linear_cross_entropy.reference import IGNORED
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

HERE = "llmtool.core.kernels.linear_cross_entropy"


class LinearCrossEntropySpec(Spec):
    """Inputs h, weight, labels; output losses [tokens] in float32. Every seventh label is ignored."""

    name = "linear_cross_entropy"
    summary = "loss of each token from the last hidden states, logits never whole"
    implementations = (
        Implementation("reference", f"{HERE}.reference:linear_cross_entropy"),
        Implementation("ours", f"{HERE}.triton:linear_cross_entropy", ("triton",), cuda=True, own=True),
        Implementation("lean", f"{HERE}.chunked:linear_cross_entropy", own=True),
        Implementation("torch.compile", f"{HERE}.reference:linear_cross_entropy", compiled=True),
        Implementation("liger", f"{HERE}.rivals:liger_linear_cross_entropy", ("liger_kernel",), cuda=True),
    )
    differentiable = (0, 1)
    uniform_upstream = True

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Vocabularies of Llama 2, GPT-2 and Llama 3."""
        if sizes == "odd":
            shapes = [(6, 42, 123), (42, 6, 431), (123, 32, 97), (1, 8, 2)]
        elif sizes == "small":
            shapes = [(512, 256, 8192), (512, 256, 50304)]
        else:
            shapes = [(8192, 2048, 32000), (8192, 4096, 128256), (8192, 2048, 151936)]
        return [case(tokens=n, width=width, vocabulary=size) for n, width, size in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """h normal, weight so that logits have deviation 2."""
        tokens, width, vocabulary = case["tokens"], case["width"], case["vocabulary"]
        h = draw(generator, tokens, width, dtype=dtype, device=device)
        weight = draw(generator, vocabulary, width, dtype=dtype, device=device, scale=2 / width**0.5)
        labels = torch.randint(vocabulary, (tokens,), generator=generator, device=generator.device)
        labels[3::7] = IGNORED
        return h, weight, labels.to(device)

    def flops(self, case: Case, direction: Direction) -> float:
        """One matrix product forward, two more backward."""
        product = 2 * elements(case["tokens"], case["width"], case["vocabulary"])
        return product * (1 if direction == "forward" else 3)

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """h and weight; backward also their gradients."""
        once = (case["tokens"] + case["vocabulary"]) * case["width"] * itemsize(dtype)
        return once * (1 if direction == "forward" else 2)

    def tunings(self) -> Mapping[str, Tuning]:
        """Columns at a time; with its gradient, as every training step has it."""
        return {"step": Tuning(grid(BLOCK=(4096, 8192, 16384, 32768), num_warps=(8, 16, 32)), "training")}

    def tuned_size(self, case: Case) -> int:
        """A row of logits."""
        return case["vocabulary"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """With the gradient and without."""
        from llmtool.core.kernels.linear_cross_entropy.triton import step_kernel

        addresses = {
            **pointers("bf16", "logits_ptr"),
            **pointers("i64", "labels_ptr"),
            **pointers("fp32", "losses_ptr"),
        }
        tile = lookup("linear_cross_entropy", "step", (), 128256)
        return [
            CompileConfig(
                "step with gradient" if gradient else "step",
                step_kernel,
                {**addresses, "stride": "i32", "vocabulary": "i32", "ignored": "i32"},
                {"GRADIENT": gradient, "BLOCK": tile["BLOCK"]},
                divisible=(*addresses, "stride", "vocabulary"),
                num_warps=tile["num_warps"],
                wide_loads=True,
            )
            for gradient in (True, False)
        ]


SPEC = LinearCrossEntropySpec()
