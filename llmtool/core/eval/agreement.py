"""How far two models agree on the same tokens: KL divergence, largest logit difference, same likeliest token, loss.

In float64: in float32 the rounding of two equal models already looks like a KL of 1e-7, here it is exactly 0. A NaN in
either model stays visible in every figure, so that it passes no limit.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

Logits = Callable[[torch.Tensor], torch.Tensor]
"""ids [B, T] -> logits [B, T, V]."""

POSITIONS = 32
"""Positions held in float64 at once: with 128k tokens each of the five arrays takes 33 MB."""


@dataclass
class LogitAgreement:
    """Sums over tokens; the first model is the norm."""

    tokens: int = 0
    identical: bool = True
    """Every logit is the same, bit for bit."""
    kl_sum: float = 0.0
    kl_max: float = 0.0
    largest: float = 0.0
    """max |difference| of two logits."""
    same: int = 0
    """Tokens where both find the same id likeliest."""
    predicted: int = 0
    """Tokens with one before them in their row: those that have a loss."""
    norm_loss_sum: float = 0.0
    other_loss_sum: float = 0.0

    def add(self, norm: torch.Tensor, other: torch.Tensor, ids: torch.Tensor) -> None:
        """Two sets of logits [T, V] for the row of ids [T]."""
        self.tokens += len(ids)
        self.predicted += len(ids) - 1
        self.identical &= torch.equal(norm, other)
        for start in range(0, len(ids), POSITIONS):
            stop = start + POSITIONS
            self._add(norm[start:stop].double(), other[start:stop].double(), ids[start + 1 : stop + 1])

    def _add(self, norm: torch.Tensor, other: torch.Tensor, following: torch.Tensor) -> None:
        """norm, other [t, V]; following [t], or [t - 1] at the end of a row: the ids that come next."""
        p, q = norm.log_softmax(-1), other.log_softmax(-1)
        # 0 ln 0 is 0, which exp(-inf) * (-inf - x) is not.
        kl = torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1)
        self.kl_sum += float(kl.sum())
        self.kl_max = _larger(self.kl_max, float(kl.max()))
        self.largest = _larger(self.largest, float(torch.where(norm == other, 0.0, norm - other).abs().max()))
        self.same += int((norm.argmax(-1) == other.argmax(-1)).sum())
        places = torch.arange(len(following))
        self.norm_loss_sum -= float(p[places, following].sum())
        self.other_loss_sum -= float(q[places, following].sum())

    @property
    def kl(self) -> float:
        """Mean KL(norm || other) in nats a token."""
        return self.kl_sum / self.tokens

    @property
    def top1(self) -> float:
        """Share of tokens with the same likeliest id."""
        return self.same / self.tokens

    @property
    def losses(self) -> tuple[float, float]:
        """Nats for each predicted token, of the norm and of the other; 0 where rows hold one token."""
        return self.norm_loss_sum / max(1, self.predicted), self.other_loss_sum / max(1, self.predicted)

    def figures(self) -> dict[str, Any]:
        """For JSON, which has no word for NaN and infinity: None stands for them."""
        numbers = {
            "kl": self.kl,
            "kl_max": self.kl_max,
            "max_abs_difference": self.largest,
            "top1_agreement": self.top1,
            "norm_loss": self.losses[0],
            "other_loss": self.losses[1],
        }
        finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        return {"tokens": self.tokens, "identical": self.identical, **finite}


def _larger(a: float, b: float) -> float:
    """max, but NaN stays."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


@torch.inference_mode()
def compare_logits(norm: Logits, other: Logits, rows: Iterable[list[int]]) -> LogitAgreement:
    """Run both on each row of ids."""
    found = LogitAgreement()
    for row in rows:
        ids = torch.tensor(row)
        found.add(norm(ids[None])[0].cpu(), other(ids[None])[0].cpu(), ids)
    return found
