"""The first half of experts in one kernel, against the loop over groups and the dense feed-forward layer."""

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from llmtool.core.bench.gate import check, poisoned
from llmtool.core.kernels.grouped_swiglu.reference import grouped_swiglu as reference
from llmtool.core.kernels.grouped_swiglu.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case
from tests.core.kernels.gate import DEVICE, kernel_test, passes


@kernel_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@kernel_test
def test_unfused_equals_reference() -> None:
    passes(SPEC, SPEC.cases("odd")[1], torch.float32, "ours, unfused")


def test_one_group_is_a_dense_layer() -> None:
    x, gate, up = torch.randn(5, 6), torch.randn(1, 9, 6), torch.randn(1, 9, 6)
    dense = F.silu(x @ gate[0].T) * (x @ up[0].T)
    assert torch.equal(reference(x, gate, up, torch.tensor([5], dtype=torch.int32)), dense)


@kernel_test
@pytest.mark.parametrize("ends", [[0, 42], [42, 42], [1, 2, 42], [32, 42], [33, 34, 42]])
@pytest.mark.parametrize("frozen", [True, False])
def test_boundaries(ends: list[int], frozen: bool) -> None:
    """With gradients and without, which are two kernels; groups that are empty, of one row, and end beside a tile."""
    from llmtool.core.kernels.grouped_swiglu.triton import grouped_swiglu

    generator = torch.Generator().manual_seed(len(ends))
    shapes = [(42, 6), (len(ends), 9, 6), (len(ends), 9, 6)]
    given = [torch.randn(shape, generator=generator).to(DEVICE).requires_grad_(not frozen) for shape in shapes]
    x, gate, up = given
    limits = torch.tensor(ends, dtype=torch.int32, device=DEVICE)
    with poisoned():
        y = grouped_swiglu(x, gate, up, limits)
    wanted = reference(x, gate, up, limits)
    assert torch.allclose(y, wanted, atol=1e-5)
    if not frozen:
        with poisoned():
            found = torch.autograd.grad(y.sum(), given)
        for one, other in zip(found, torch.autograd.grad(wanted.sum(), given), strict=True):
            assert torch.allclose(one, other, atol=1e-4)


@kernel_test
def test_planted_errors_are_found() -> None:
    ours = SPEC.implementation(OURS).load()
    shape = SPEC.cases("odd")[1]
    assert not check(SPEC, lambda x, g, u, e: ours(x, u, g, e), shape, torch.float32, "forward", DEVICE).passed
    assert not check(
        SPEC, lambda x, g, u, e: ours(x, g, u.roll(1, 0), e), shape, torch.float32, "forward", DEVICE
    ).passed
