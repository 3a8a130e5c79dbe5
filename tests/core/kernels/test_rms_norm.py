"""RMSNorm: the kernel against the reference, the reference against torch and the decoder's own."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check, poisoned
from llmtool.core.kernels.rms_norm.reference import rms_norm as reference
from llmtool.core.kernels.rms_norm.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case
from llmtool.core.model import norm
from tests.core.kernels.gate import DEVICE, kernel_test, passes

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@kernel_test
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@kernel_test
def test_views_and_mixed_types() -> None:
    """A strided x, three leading dimensions, a float32 weight on bfloat16 x: as the decoder may call it."""
    from llmtool.core.kernels.rms_norm.triton import rms_norm

    x = torch.randn(3, 42, 2, 64, dtype=torch.bfloat16, device=DEVICE)[..., ::2]
    weight = torch.randn(32, device=DEVICE)
    with poisoned():
        y = rms_norm(x, weight, 1e-5)
    assert y.dtype == torch.float32
    assert y.shape == x.shape
    assert torch.allclose(y, reference(x, weight, 1e-5), atol=3e-2, rtol=2e-2)


@kernel_test
def test_rounds_before_the_weight() -> None:
    """As the families do: the results of one rounding alone differ in the last bit, in a quarter of all places.

    In float16, for Triton's interpreter cuts bfloat16 off.
    """
    from llmtool.core.kernels.rms_norm.triton import rms_norm

    generator = torch.Generator(DEVICE).manual_seed(3)
    x, weight = (torch.randn(*shape, generator=generator, device=DEVICE).half() for shape in ((64, 256), (256,)))
    wanted = norm.rms_norm(x, weight, 1e-6)
    assert float((rms_norm(x, weight, 1e-6) != wanted).float().mean()) < 0.01


@kernel_test
def test_no_rows() -> None:
    from llmtool.core.kernels.rms_norm.triton import rms_norm

    x = torch.empty(0, 42, device=DEVICE, requires_grad=True)
    weight = torch.ones(42, device=DEVICE, requires_grad=True)
    torch.autograd.backward(rms_norm(x, weight, 1e-5).sum())
    assert weight.grad is not None
    assert not weight.grad.any()


def test_reference_is_what_the_decoder_computes() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.randn(7, 42, dtype=dtype), torch.randn(42, dtype=dtype)
        assert torch.equal(reference(x, weight, 1e-6), norm.rms_norm(x, weight, 1e-6))


@pytest.mark.parametrize("rival", ["F.rms_norm"])
def test_rivals_compute_the_same(rival: str) -> None:
    for case in SPEC.cases("odd"):
        verdict = check(SPEC, SPEC.implementation(rival).load(), case, torch.float32, "training", torch.device("cpu"))
        assert verdict.passed, verdict.reason


@kernel_test
def test_a_planted_error_is_found() -> None:
    """The test that the tests can fail: eps, weight, a row, an element."""
    ours = SPEC.implementation(OURS).load()
    case = SPEC.cases("odd")[2]

    def wrong_eps(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        y: torch.Tensor = ours(x, weight, eps + 0.01)
        return y

    def no_weight(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        y: torch.Tensor = ours(x, torch.ones_like(weight) + 0 * weight, eps)
        return y

    def one_element(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        y: torch.Tensor = ours(x, weight, eps)
        changed = torch.zeros_like(y)
        changed[-1, -1] = 1
        return y + changed

    for planted in (wrong_eps, no_weight, one_element):
        assert not check(SPEC, planted, case, torch.float32, "forward", DEVICE).passed, planted.__name__
