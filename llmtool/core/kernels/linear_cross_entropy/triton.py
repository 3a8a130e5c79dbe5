"""The step of chunked.py as one kernel: a row of logits is read twice and overwritten by its gradient.

The matrix products stay with cuBLAS, which no Triton kernel beats at these shapes. The first walk over a row keeps a
running maximum and sum (online softmax); the second, mostly out of the L2 cache, writes softmax - onehot.
"""

import torch
import triton
import triton.language as tl

from llmtool.core.kernels.linear_cross_entropy.chunked import define
from llmtool.core.kernels.linear_cross_entropy.reference import IGNORED
from llmtool.core.kernels.operators import launch, refuse_double
from llmtool.core.kernels.tuning import tuned


@triton.jit
def step_kernel(
    logits_ptr, labels_ptr, losses_ptr, stride, vocabulary, ignored, GRADIENT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One row of logits [rows, vocabulary] a program."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row)
    logits_ptr += row * stride
    column = tl.arange(0, BLOCK)
    # torch stops the program at such a label; here its loss is no number, and nothing is read past the row.
    outside = (label < 0) | (label >= vocabulary)
    if label == ignored:
        tl.store(losses_ptr + row, 0.0)
        if GRADIENT:
            for start in range(0, vocabulary, BLOCK):
                zero = tl.zeros((BLOCK,), logits_ptr.dtype.element_ty)
                tl.store(logits_ptr + start + column, zero, mask=start + column < vocabulary)
    else:
        # Before the reductions, whose barriers keep other warps from writing the gradient over it.
        target = tl.load(logits_ptr + tl.where(outside, 0, label)).to(tl.float32)
        target = tl.where(outside, float("nan"), target)
        # A running maximum and sum for each lane: no reduction across lanes inside the loop.
        largest = tl.full((BLOCK,), -float("inf"), tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, vocabulary, BLOCK):
            inside = start + column < vocabulary
            x = tl.load(logits_ptr + start + column, mask=inside, other=-float("inf")).to(tl.float32)
            higher = tl.maximum(largest, x)
            # A lane beyond the end has seen nothing but -inf, and -inf - -inf is no number.
            shift = tl.where(higher == -float("inf"), 0.0, higher)
            total = total * tl.exp(largest - shift) + tl.exp(x - shift)
            largest = higher
        top = tl.max(largest, 0)
        whole = tl.sum(total * tl.exp(largest - top), 0)
        tl.store(losses_ptr + row, tl.log(whole) + top - target)
        if GRADIENT:
            for start in range(0, vocabulary, BLOCK):
                inside = start + column < vocabulary
                x = tl.load(logits_ptr + start + column, mask=inside, other=-float("inf")).to(tl.float32)
                p = tl.exp(x - top) / whole - tl.where(start + column == label, 1.0, 0.0)
                p = tl.where(outside, float("nan"), p)
                tl.store(logits_ptr + start + column, p.to(logits_ptr.dtype.element_ty), mask=inside)


def step(logits: torch.Tensor, labels: torch.Tensor, gradient: bool) -> torch.Tensor:
    """As chunked.Step."""
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    tile = tuned("linear_cross_entropy", "step", logits.device, vocabulary, logits.dtype)
    refuse_double(logits)
    labels = labels.contiguous()
    if not rows:
        return losses
    launch(
        step_kernel, (rows,), logits, labels, losses, logits.stride(0), vocabulary, IGNORED,
        GRADIENT=gradient, BLOCK=min(tile["BLOCK"], triton.next_power_of_2(vocabulary)), num_warps=tile["num_warps"],
    )  # fmt: skip
    return losses


linear_cross_entropy = define("linear_cross_entropy", step)
"""As reference.linear_cross_entropy."""
