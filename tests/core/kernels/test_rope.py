"""RoPE: the kernel against the reference, the reference against the decoder's own rotation."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check
from llmtool.core.kernels.rope.reference import rope as reference
from llmtool.core.kernels.rope.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case, case
from llmtool.core.model.rope import rotate_pair
from tests.core.kernels.gate import DEVICE, kernel_test, passes


@kernel_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


def inputs(**changes: int) -> tuple[torch.Tensor, ...]:
    sizes = {"rows": 2, "heads": 4, "shared": 2, "tokens": 5, "size": 6, "tables": 2, "own": 1, **changes}
    made: tuple[torch.Tensor, ...] = SPEC.make_inputs(case(**sizes), torch.float32, DEVICE, torch.Generator())
    return made


@pytest.mark.parametrize("tables", [1, 2])
def test_reference_is_what_the_decoder_computes(tables: int) -> None:
    made = inputs(tables=tables)
    for x, y in zip(reference(*made), rotate_pair(*made), strict=True):
        assert torch.equal(x, y)


@kernel_test
def test_layouts_are_taken_as_they_are() -> None:
    """Projections give [B, T, H, D] turned around, caches give slices of tables, tests give anything."""
    from llmtool.core.kernels.rope.triton import rope

    q, k, cos, sin = inputs()
    wide = [torch.randn(2, 2, 9, 3).to(DEVICE)[:, :, 2:7] for _ in range(2)]
    for given in (
        (q, k, *wide),
        (q.contiguous(), k.contiguous(), cos, sin),
        (q.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2), k, cos, sin),
    ):
        for x, y in zip(rope(*given), reference(*given), strict=True):
            assert torch.allclose(x, y, atol=1e-6)
    assert rope(q, k, cos, sin)[0].stride() == q.stride()


@kernel_test
def test_planted_errors_are_found() -> None:
    ours = SPEC.implementation(OURS).load()
    shape = SPEC.cases("odd")[2]
    planted = {
        "sign": lambda q, k, cos, sin: ours(q, k, cos, -sin),
        "no tables of heads": lambda q, k, cos, sin: ours(q, k, cos[:, :1], sin[:, :1]),
        "one row": lambda q, k, cos, sin: ours(q, k, cos[:1], sin[:1]),
        "k as it was": lambda q, k, cos, sin: (ours(q, k, cos, sin)[0], k + 0),
    }
    for name, wrong in planted.items():
        assert not check(SPEC, wrong, shape, torch.float32, "forward", DEVICE).passed, name
