"""SwiGLU: the kernels against the reference."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check
from llmtool.core.kernels.spec import Case
from llmtool.core.kernels.swiglu.reference import swiglu as reference
from llmtool.core.kernels.swiglu.spec import SPEC
from tests.core.kernels.gate import DEVICE, kernel_test, passes


@kernel_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@kernel_test
def test_ends_of_silu() -> None:
    """exp overflows at -100 in float32: the value and the gradient must not."""
    from llmtool.core.kernels.swiglu.triton import swiglu

    gate = torch.tensor([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], device=DEVICE, requires_grad=True)
    up = torch.full_like(gate, 2.0)
    torch.autograd.backward(swiglu(gate, up).sum())
    found = gate.grad
    assert found is not None
    gate.grad = None
    torch.autograd.backward(reference(gate, up).sum())
    assert gate.grad is not None
    assert torch.allclose(found, gate.grad)
    assert torch.allclose(swiglu(gate, up), reference(gate, up))


@kernel_test
def test_views_are_taken() -> None:
    from llmtool.core.kernels.swiglu.triton import swiglu

    both = torch.randn(3, 5, 2, 42, device=DEVICE)
    gate, up = both.unbind(2)
    assert torch.allclose(swiglu(gate, up), reference(gate, up), atol=1e-6)
    assert swiglu(gate[:0], up[:0]).shape == (0, 5, 42)


@kernel_test
def test_a_wrong_gradient_is_found() -> None:
    """What passes forward and fails training: the gradient of gelu under the values of silu."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
            return reference(gate, up)

        @staticmethod
        def backward(ctx: object, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return gradients[0], gradients[0]

    shape = SPEC.cases("odd")[1]
    assert check(SPEC, Wrong.apply, shape, torch.float32, "forward", DEVICE).passed
    assert not check(SPEC, Wrong.apply, shape, torch.float32, "training", DEVICE).passed
