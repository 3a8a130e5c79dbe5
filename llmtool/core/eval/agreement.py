"""How far two models agree on the same tokens: KL divergence, largest logit difference, same likeliest token."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

Logits = Callable[[torch.Tensor], torch.Tensor]
"""ids [B, T] -> logits [B, T, V]."""


@dataclass
class LogitAgreement:
    """Sums over tokens; the first model is the norm."""

    tokens: int = 0
    kl_sum: float = 0.0
    kl_max: float = 0.0
    largest: float = 0.0
    """max |difference| of two logits."""
    same: int = 0
    """Tokens where both find the same id likeliest."""

    def add(self, norm: torch.Tensor, other: torch.Tensor) -> None:
        """Two sets of logits [..., V] for the same tokens."""
        norm, other = norm.double().flatten(0, -2), other.double().flatten(0, -2)
        p, q = norm.log_softmax(-1), other.log_softmax(-1)
        # 0 ln 0 is 0, which exp(-inf) * (-inf - x) is not.
        kl = torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1)
        self.tokens += kl.numel()
        self.kl_sum += float(kl.sum())
        self.kl_max = max(self.kl_max, float(kl.max()))
        difference = float((norm - other).abs().max())
        self.largest = difference if math.isnan(difference) else max(self.largest, difference)
        self.same += int((norm.argmax(-1) == other.argmax(-1)).sum())

    @property
    def kl(self) -> float:
        """Mean KL(norm || other) in nats a token."""
        return self.kl_sum / self.tokens

    @property
    def top1(self) -> float:
        """Share of tokens with the same likeliest id."""
        return self.same / self.tokens


@torch.inference_mode()
def compare_logits(norm: Logits, other: Logits, rows: Iterable[list[int]]) -> LogitAgreement:
    """Run both on each row of ids."""
    found = LogitAgreement()
    for row in rows:
        ids = torch.tensor([row])
        found.add(norm(ids).cpu(), other(ids).cpu())
    return found
