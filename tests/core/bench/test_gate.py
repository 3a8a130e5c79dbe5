"""The gate lets through what is right and nothing else."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import compare, poisoned


def named(*tensors: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    return [(f"output {index}", x) for index, x in enumerate(tensors)]


def test_rounding_passes_and_errors_do_not() -> None:
    wanted = torch.randn(1024, 1024, dtype=torch.float64)
    assert compare(named(wanted.bfloat16()), named(wanted), 6e-3).passed
    assert not compare(named(wanted * 1.01), named(wanted), 6e-3).passed
    one = wanted.clone()
    one[3, 5] += 2 + wanted[3, 5].abs()
    assert "1 of 1,048,576 elements" in str(compare(named(one), named(wanted), 6e-3).reason)


def test_nan_shapes_and_counts_fail() -> None:
    wanted = torch.randn(8, dtype=torch.float64)
    spoiled = wanted.clone()
    spoiled[0] = torch.nan
    assert not compare(named(spoiled), named(wanted), 1.0).passed
    assert not compare(named(wanted[:4]), named(wanted), 1.0).passed
    assert not compare(named(wanted, wanted), named(wanted), 1.0).passed


def test_poison() -> None:
    with poisoned():
        assert torch.empty(3).isnan().all()
        assert torch.empty_like(torch.ones(3)).isnan().all()
        assert torch.ones(3).new_empty(2).isnan().all()
        assert (torch.empty(2, dtype=torch.int64) == 101).all()
    assert not torch.zeros(2).isnan().any()
