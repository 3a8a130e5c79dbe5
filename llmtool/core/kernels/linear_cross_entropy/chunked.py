"""Chunks of tokens: logits are made, turned into their own gradient in place, used, and overwritten by the next.

The gradient of a token's loss needs the logits of that token only. So the forward pass, where gradients will be
wanted, computes them at once: for a chunk, G = softmax - onehot; dh = G W; dW += G^T h. Nothing of the size
[tokens, vocabulary] is kept and nothing is computed twice: three matrix products, as the plain way has.

One thing is not known yet, the upstream gradient of each token's loss. dh takes it as a factor of its rows later. dW
has summed over the tokens: if all upstream gradients are one number, it is a factor of dW too. Autograd says so by the
layout: the gradient of a sum or a mean over tokens (every training loop's) is one number expanded, with a stride of 0.
Any other gets dW computed again, with its numbers. Nobody waits for the device to find out.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import library

from llmtool.core.kernels import operators
from llmtool.core.kernels.linear_cross_entropy.reference import IGNORED
from llmtool.core.kernels.operators import autocast

Step = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""step(logits [c, V], labels [c], gradient) -> losses [c] in float32; with `gradient`, logits become softmax - onehot
in place, 0 in rows that are IGNORED."""

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""As reference.linear_cross_entropy."""

Computed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""losses [tokens], dh, dW; empty where it was not wanted."""

LEAST = 32 << 20
"""Bytes of logits that are worth cutting: below, a matrix product no longer fills the machine."""
MOST_CHUNKS = 8
"""Each chunk reads and writes dW once more; 8 of them in bfloat16 also round it 8 times."""


def chunk_rows(tokens: int, vocabulary: int, itemsize: int) -> int:
    """Tokens in a chunk: an eighth of them, unless their logits are small anyway."""
    return max(-(-tokens // MOST_CHUNKS), LEAST // (vocabulary * itemsize), 1)


def chunks(tokens: int, rows: int) -> Iterator[slice]:
    """Slices of `rows` tokens."""
    return (slice(start, min(start + rows, tokens)) for start in range(0, tokens, rows))


def torch_step(logits: torch.Tensor, labels: torch.Tensor, gradient: bool) -> torch.Tensor:
    """The step in torch's operators, in place where it can be."""
    wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    valid = labels != IGNORED
    at = labels.where(valid, 0)[:, None]
    target = wide.gather(1, at)[:, 0]
    largest = wide.amax(1, keepdim=True)
    wide = wide.sub_(largest).exp_()
    total = wide.sum(1, keepdim=True)
    losses = (total.log() + largest)[:, 0] - target
    if gradient:
        wide.div_(total).scatter_add_(1, at, wide.new_full((1, 1), -1.0).expand_as(at))
        wide.mul_(valid[:, None])
        if wide is not logits:
            logits.copy_(wide)
    return losses.where(valid, 0.0)


def losses_of(
    h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, step: Step, rows: int, of_h: bool, of_weight: bool
) -> Computed:
    """Losses, and dh and dW under upstream gradients of 1 where they are wanted, else nothing."""
    losses = h.new_empty(len(h), dtype=torch.float64 if h.dtype == torch.float64 else torch.float32)
    dh = h.new_empty(h.shape if of_h else 0)
    dweight = torch.zeros_like(weight) if of_weight else weight.new_empty(0)
    logits = h.new_empty(min(rows, len(h)), len(weight))
    for cut in chunks(len(h), rows):
        part = torch.mm(h[cut], weight.t(), out=logits[: cut.stop - cut.start])
        losses[cut] = step(part, labels[cut], of_h or of_weight)
        if of_h:
            torch.mm(part, weight, out=dh[cut])
        if of_weight:
            dweight.addmm_(part.t(), h[cut])
    return losses, dh, dweight


def again(
    h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, upstream: torch.Tensor, step: Step, rows: int
) -> torch.Tensor:
    """dW under upstream gradients that differ."""
    dweight = torch.zeros_like(weight)
    upstream = upstream.where(labels != IGNORED, 0.0)
    for cut in chunks(len(h), rows):
        logits = torch.mm(h[cut], weight.t())
        step(logits, labels[cut], True)
        dweight.addmm_(logits.t(), h[cut] * upstream[cut, None].to(h.dtype))
    return dweight


def define(name: str, step: Step) -> Loss:
    """The loss with this step, as an operator that torch.compile takes whole: its loop and products are no graph."""

    @library.custom_op(f"llmtool::{name}", mutates_args=())
    def forward(
        h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, of_h: bool, of_weight: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return losses_of(h, weight, labels, step, rows_of(h, weight), of_h, of_weight)

    @forward.register_fake
    def _(*inputs: Any) -> Computed:
        h, weight, labels, of_h, of_weight = inputs
        if operators.RECORDER is not None:
            return losses_of(h, weight, labels, step, rows_of(h, weight), of_h, of_weight)
        losses = h.new_empty(len(h), dtype=torch.float64 if h.dtype == torch.float64 else torch.float32)
        return losses, h.new_empty(h.shape if of_h else 0), torch.empty_like(weight) if of_weight else h.new_empty(0)

    @library.custom_op(f"llmtool::{name}_again", mutates_args=())
    def other(
        h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, upstream: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        return again(h, weight, labels, upstream, step, rows_of(h, weight))

    @other.register_fake
    def _(*inputs: Any) -> torch.Tensor:
        return torch.empty_like(inputs[1])

    def save(ctx: Any, inputs: tuple[Any, ...], output: Computed) -> None:
        h, weight, labels, ctx.of_h, ctx.of_weight = inputs
        ctx.save_for_backward(h, weight, labels, output[1], output[2])

    def gradients(
        ctx: Any, upstream: torch.Tensor, *_: Any
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        h, weight, labels, dh, dweight = ctx.saved_tensors
        # Rows of dh that are IGNORED are 0; the upstream gradient there need not be a number.
        rows = upstream.where(labels != IGNORED, 0.0).to(dh.dtype)[:, None]
        of_h = dh * rows if ctx.of_h else None
        if not ctx.of_weight:
            return of_h, None, None, None, None
        if one_for_all(upstream):
            return of_h, dweight * upstream[:1].to(dweight.dtype).sum(), None, None, None
        return of_h, other(h, weight, labels, upstream), None, None, None

    forward.register_autograd(gradients, setup_context=save)

    def loss(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """As reference.linear_cross_entropy; under autocast in its type, as a linear layer's product would be."""
        h, weight = autocast(h, weight)
        taped = torch.is_grad_enabled()
        with torch.autocast(h.device.type, enabled=False):
            losses: torch.Tensor = forward(
                h, weight, labels, taped and h.requires_grad, taped and weight.requires_grad
            )[0]  # fmt: skip
        return losses

    return loss


def one_for_all(upstream: torch.Tensor) -> bool:
    """Whether a gradient [tokens] is one number expanded: known from its layout, without a look at it."""
    return upstream.shape[0] < 2 or upstream.stride(0) == 0


def rows_of(h: torch.Tensor, weight: torch.Tensor) -> int:
    """Tokens in a chunk."""
    return chunk_rows(len(h), len(weight), h.element_size())


linear_cross_entropy = define("linear_cross_entropy_lean", torch_step)
"""As reference.linear_cross_entropy, on any device."""
