"""Chunks of tokens: logits are made, turned into their own gradient in place, used, and overwritten by the next.

The gradient of a token's loss needs the logits of that token only. So the forward pass, where gradients will be
wanted, computes them at once: for a chunk, G = softmax - onehot; dh = G W; dW += G^T h. Nothing of the size
[tokens, vocabulary] is kept and nothing is computed twice: three matrix products, as the plain way has.

One thing is not known yet, the upstream gradient of each token's loss. dh takes it as a factor of its rows later. dW
has summed over the tokens: if all upstream gradients are one number (a mean over tokens: every training loop), it is a
factor of dW too; if not (found by one comparison in the backward pass), dW is computed again, with them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from llmtool.core.kernels.linear_cross_entropy.reference import IGNORED

Step = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""step(logits [c, V], labels [c], gradient) -> losses [c] in float32; with `gradient`, logits become softmax - onehot
in place, 0 in rows that are IGNORED."""

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


class Chunked(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(
        ctx: Any, h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, step: Step, rows: int
    ) -> torch.Tensor:
        """As reference.linear_cross_entropy."""
        wanted = ctx.needs_input_grad
        losses = h.new_empty(len(h), dtype=torch.float64 if h.dtype == torch.float64 else torch.float32)
        dh = torch.empty_like(h) if wanted[0] else None
        dweight = torch.zeros_like(weight) if wanted[1] else None
        logits = h.new_empty(min(rows, len(h)), len(weight))
        for cut in chunks(len(h), rows):
            part = torch.mm(h[cut], weight.t(), out=logits[: cut.stop - cut.start])
            losses[cut] = step(part, labels[cut], wanted[0] or wanted[1])
            if dh is not None:
                torch.mm(part, weight, out=dh[cut])
            if dweight is not None:
                dweight.addmm_(part.t(), h[cut])
        ctx.save_for_backward(h, weight, labels, dh, dweight)
        ctx.step, ctx.rows = step, rows
        return losses

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        """The upstream gradients [tokens] times what the forward pass left."""
        h, weight, labels, dh, dweight = ctx.saved_tensors
        valid = labels != IGNORED
        upstream = gradients[0].where(valid, 0.0)
        if dh is not None:
            dh = dh * upstream.to(dh.dtype)[:, None]
        if dweight is not None and len(h):
            one = upstream.index_select(0, valid.int().argmax()[None])
            if bool((upstream == one).logical_or(~valid).all()):
                dweight = dweight * one.to(dweight.dtype)
            else:
                dweight = again(h, weight, labels, upstream, ctx.step, ctx.rows)
        return dh, dweight, None, None, None


def again(
    h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, upstream: torch.Tensor, step: Step, rows: int
) -> torch.Tensor:
    """dW under upstream gradients that differ."""
    dweight = torch.zeros_like(weight)
    for cut in chunks(len(h), rows):
        logits = torch.mm(h[cut], weight.t())
        step(logits, labels[cut], True)
        dweight.addmm_(logits.t(), h[cut] * upstream[cut, None].to(h.dtype))
    return dweight


def linear_cross_entropy(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As reference.linear_cross_entropy, on any device."""
    rows = chunk_rows(len(h), len(weight), h.element_size())
    return run(h, weight, labels, torch_step, rows)


def run(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, step: Step, rows: int) -> torch.Tensor:
    """The function to autograd; under autocast in its type, as a linear layer's product would be."""
    device = h.device.type
    if torch.is_autocast_enabled(device):
        half = torch.get_autocast_dtype(device)
        h, weight = h.to(half), weight.to(half)
    with torch.autocast(device, enabled=False):
        losses: torch.Tensor = Chunked.apply(h, weight, labels, step, rows)  # type: ignore[no-untyped-call]
    return losses
