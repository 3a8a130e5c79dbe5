"""Sums by position, and the bins of the figure."""

import math

import pytest
import torch

from llmtool.core.eval.loss import PositionLoss
from llmtool.core.eval.plot import binned


def test_sums_by_position_and_bytes() -> None:
    total = PositionLoss.empty(3)
    labels = torch.tensor([[1, 2, -100], [2, -100, -100]])
    losses = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]])
    total.add(losses, labels, torch.tensor([0, 1, 4]))
    assert total.tokens == 3
    assert total.mean == pytest.approx(2.0)
    assert total.positions() == [2.0, 2.0]
    assert total.bits_per_byte == pytest.approx(6 / math.log(2) / 9)
    total.merge(lambda values: values * 2)
    assert total.tokens == 6
    assert total.mean == pytest.approx(2.0)


def test_positions_of_packed_rows() -> None:
    total = PositionLoss.empty(4)
    total.add(
        torch.tensor([[1.0, 2.0, 5.0, 4.0]]), torch.ones(1, 4, dtype=torch.long), None, torch.tensor([[0, 1, 0, 1]])
    )
    assert total.positions() == [3.0, 3.0]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 100])
def test_bins_hold_every_position_once(length: int) -> None:
    x, y = binned([1.0] * length)
    assert y == [1.0] * len(x)
    assert x[-1] <= length
    assert x == sorted(x)
    assert binned([float(i) for i in range(1, length + 1)]) == (x, x)


def test_buckets_weigh_every_token_once() -> None:
    """Rows of 5 and of 3 tokens: position 3 is predicted twice, 4 and 5 once."""
    total = PositionLoss.empty(5)
    labels = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, -100, -100]])
    total.add(torch.tensor([[9.0, 1, 2, 3, 5], [7, 3, 4, 0, 0]]), labels, torch.ones(2, dtype=torch.long))
    assert total.buckets() == [(1, 8.0), (2, 2.5), (4, 4.0)]
