"""Grouped matrix products: the kernels against the loop over groups."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check, poisoned
from llmtool.core.kernels.grouped_gemm.reference import grouped_gemm as reference
from llmtool.core.kernels.grouped_gemm.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case
from tests.core.kernels.gate import DEVICE, kernel_test, passes


@kernel_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@kernel_test
@pytest.mark.parametrize("ends", [[42], [0, 42], [42, 42], [0, 0, 42, 42], [1, 2, 3, 42], [32, 42], [33, 34, 42]])
def test_boundaries(ends: list[int]) -> None:
    """Empty groups at either end, groups of one row, groups that end on a tile and just after: 32 rows are a tile."""
    from llmtool.core.kernels.grouped_gemm.triton import grouped_gemm

    generator = torch.Generator().manual_seed(len(ends))
    x = torch.randn(42, 6, generator=generator).to(DEVICE).requires_grad_()
    weight = torch.randn(len(ends), 9, 6, generator=generator).to(DEVICE).requires_grad_()
    limits = torch.tensor(ends, dtype=torch.int32, device=DEVICE)
    upstream = torch.randn(42, 9, generator=generator).to(DEVICE)
    with poisoned():
        y = grouped_gemm(x, weight, limits)
        found = torch.autograd.grad(y, (x, weight), upstream)
    wanted = reference(x, weight, limits)
    assert torch.allclose(y, wanted, atol=1e-5)
    for one, other in zip(found, torch.autograd.grad(wanted, (x, weight), upstream), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@kernel_test
def test_planted_errors_are_found() -> None:
    ours = SPEC.implementation(OURS).load()
    shape = SPEC.cases("odd")[1]
    planted = {
        "first group for all": lambda x, w, ends: ours(x, w[:1].expand_as(w), ends),
        "ends one late": lambda x, w, ends: ours(x, w, (ends + 1).clamp(max=len(x))),
        "groups in turn": lambda x, w, ends: ours(x, w.roll(1, 0), ends),
    }
    for name, wrong in planted.items():
        assert not check(SPEC, wrong, shape, torch.float32, "forward", DEVICE).passed, name
