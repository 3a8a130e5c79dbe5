"""How far two models are apart on the same tokens: KL divergence, largest difference of a logit, top-1 agreement.

KL(A || B) = sum_v p_A(v) (log p_A(v) - log p_B(v)) in nats, at every position, in float64: at float32 the rounding of
two equal models already looks like 1e-7.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from llmtool.core.run.errors import UserError

SCHEMA = "llmtool.verify/1"
POSITIONS = 64
"""Positions whose distributions are held in float64 at once: 66 MB each at 128k tokens."""


class Model(Protocol):
    """Token ids [B, T] -> logits [B, T, vocabulary]."""

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits."""
        ...


@dataclass
class Divergence:
    """Two models, A and B, on the same `tokens`; `loss` is nats for each token that has one before it in its window."""

    tokens: int = 0
    identical: bool = True
    kl: float = 0.0
    kl_max: float = 0.0
    max_difference: float = 0.0
    top1_agreement: float = 0.0
    loss_a: float = 0.0
    loss_b: float = 0.0

    def passes(self, max_kl: float | None) -> bool:
        """Whether the mean KL is within the limit; NaN is not."""
        return max_kl is None or self.kl <= max_kl

    def to_json(self) -> dict[str, Any]:
        """The figures; one that is not a finite number is None, as JSON has no other word for it."""
        facts = {key: value if math.isfinite(value) else None for key, value in vars(self).items()}
        return {"schema": SCHEMA, **facts}

    def lines(self) -> Iterator[str]:
        """The figures for people."""
        yield f"tokens           {self.tokens:,}"
        yield f"logits           {'identical, bit for bit' if self.identical else 'not identical'}"
        yield f"KL(A || B)       mean {self.kl:.3g}, largest {self.kl_max:.3g} nats"
        yield f"max |d logit|    {self.max_difference:.3g}"
        yield f"top-1 agreement  {self.top1_agreement:.2%}"
        yield f"loss             A {self.loss_a:.4f}, B {self.loss_b:.4f} nats a token"


@torch.inference_mode()
def compare(a: Model, b: Model, windows: Iterable[Sequence[int]], device: torch.device | str = "cpu") -> Divergence:
    """Run both models on each window of ids, by itself."""
    found, predicted = Divergence(), 0
    for window in windows:
        ids = torch.tensor([window], dtype=torch.long, device=device)
        left, right = a(ids)[0], b(ids)[0]  # [T, vocabulary]
        if left.shape != right.shape:
            raise UserError(f"the vocabularies differ: {left.shape[-1]:,} and {right.shape[-1]:,} tokens")
        found.tokens += len(window)
        found.identical &= torch.equal(left, right)
        predicted += max(0, len(window) - 1)
        for start in range(0, len(window), POSITIONS):
            here = slice(start, start + POSITIONS)
            _add(found, left[here].double(), right[here].double(), ids[0, start + 1 : start + POSITIONS + 1])
    if not found.tokens:
        raise UserError("no token to compare the models on")
    found.kl /= found.tokens
    found.top1_agreement /= found.tokens
    found.loss_a /= max(1, predicted)
    found.loss_b /= max(1, predicted)
    return found


def _add(found: Divergence, left: torch.Tensor, right: torch.Tensor, targets: torch.Tensor) -> None:
    """Add sums over some positions; left, right [t, vocabulary], targets [t or t - 1] the ids that follow."""
    log_p, log_q = left.log_softmax(-1), right.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    found.kl += kl.sum().item()
    found.kl_max = _larger(found.kl_max, kl.max().item())
    found.max_difference = _larger(found.max_difference, (left - right).abs().max().item())
    found.top1_agreement += (left.argmax(-1) == right.argmax(-1)).sum().item()
    rows = torch.arange(len(targets), device=targets.device)
    found.loss_a -= log_p[rows, targets].sum().item()
    found.loss_b -= log_q[rows, targets].sum().item()


def _larger(a: float, b: float) -> float:
    """max that keeps NaN: a model that computes NaN must not look equal."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)
