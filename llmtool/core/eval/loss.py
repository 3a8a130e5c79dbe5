"""Loss on held-out text: nats a token, by position, and bits a byte where the bytes of each token are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Rows(Protocol):
    """A batch as far as it is scored."""

    @property
    def ids(self) -> torch.Tensor:
        """[B, T]."""
        ...

    @property
    def labels(self) -> torch.Tensor:
        """[B, T], negative where there is nothing to predict."""
        ...


Losses = Callable[[Any], torch.Tensor]
"""A batch -> the loss of each of its positions [B, T] in nats, 0 where there is nothing to predict."""


@dataclass
class PositionLoss:
    """Sums over rows: of losses and of predictions at each position, and of the predicted tokens' bytes."""

    losses: torch.Tensor
    """[T] float64."""
    counts: torch.Tensor
    """[T] float64."""
    bytes: float = 0.0

    @classmethod
    def empty(cls, length: int) -> "PositionLoss":
        """Nothing seen yet."""
        return cls(torch.zeros(length, dtype=torch.float64), torch.zeros(length, dtype=torch.float64))

    def add(
        self,
        losses: torch.Tensor,
        labels: torch.Tensor,
        sizes: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> None:
        """Rows [B, T]; sizes [V]: bytes of each token; positions [B, T], of packed rows, which do not begin at 0."""
        seen = labels >= 0
        places = torch.arange(labels.shape[1]).expand_as(labels) if positions is None else positions
        self.losses.index_add_(0, places[seen], losses[seen].double())
        self.counts.index_add_(0, places[seen], torch.ones(int(seen.sum()), dtype=torch.float64))
        if sizes is not None:
            self.bytes += float(sizes[labels[seen]].double().sum())

    def merge(self, total: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Sum over processes: `total` sums a tensor over them."""
        length = len(self.losses)
        both = total(torch.cat((self.losses, self.counts, torch.tensor([self.bytes], dtype=torch.float64)))).cpu()
        self.losses, self.counts, self.bytes = both[:length], both[length : 2 * length], float(both[-1])

    @property
    def tokens(self) -> int:
        """Predictions made."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(self.losses.sum() / self.counts.sum().clamp(min=1))

    @property
    def bits_per_byte(self) -> float | None:
        """Bits a byte of text, None where bytes are not known."""
        return float(self.losses.sum()) / math.log(2) / self.bytes if self.bytes else None

    def positions(self) -> list[float]:
        """Mean loss at each position, up to the first at which nothing was predicted."""
        empty = (self.counts == 0).nonzero()
        end = int(empty[0]) if len(empty) else len(self.counts)
        return (self.losses[:end] / self.counts[:end]).tolist()

    def buckets(self) -> list[tuple[int, float]]:
        """(first position, mean loss) of the buckets 2^k .. 2^(k+1) - 1, positions from 1; empty ones left out."""
        edges = [2**k for k in range(len(self.counts).bit_length())]
        parts = [(first, slice(first - 1, 2 * first - 1)) for first in edges]
        return [(first, float(self.losses[part].sum() / self.counts[part].sum())) for first, part in parts
                if self.counts[part].sum()]  # fmt: skip

    def figures(self) -> dict[str, Any]:
        """As metrics.jsonl holds them."""
        found: dict[str, Any] = {"loss": self.mean, "positions": self.positions()}
        if self.bits_per_byte is not None:
            found["bits_per_byte"] = self.bits_per_byte
        return found
