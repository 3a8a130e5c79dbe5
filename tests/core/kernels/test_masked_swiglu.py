"""w_block silu(gate) up: the kernel against the reference, forward and backward; the part trains with it."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check
from llmtool.core.kernels.masked_swiglu.reference import masked_swiglu as reference
from llmtool.core.kernels.masked_swiglu.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case
from llmtool.core.model.config import parse_config
from llmtool.methods.dsmoe import part as method
from tests.core.kernels.gate import DEVICE, kernel_test, passes
from tests.methods.dsmoe.models import RAW, carry, layer, settings


@kernel_test
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


def test_reference_is_the_parts() -> None:
    gate, up, weights = SPEC.make_inputs(
        SPEC.cases("odd")[1], torch.float32, torch.device("cpu"), torch.Generator().manual_seed(1)
    )
    assert reference(gate, up, weights).equal(method.masked_swiglu(gate, up, weights))


@kernel_test
def test_a_closed_blocks_weight_gets_its_gradient() -> None:
    """The straight-through gate of a closed block learns by it; gate and up of that block do not move."""
    from llmtool.core.kernels.masked_swiglu.triton import masked_swiglu

    gate, up = (torch.randn(3, 64, device=DEVICE).requires_grad_() for _ in range(2))
    weights = torch.tensor([[1.0, 0.0]] * 3, device=DEVICE).requires_grad_()
    torch.autograd.backward(masked_swiglu(gate, up, weights).sum())
    assert weights.grad is not None
    assert gate.grad is not None
    assert bool((weights.grad[:, 1] != 0).all())
    assert not gate.grad[:, 32:].any()


@kernel_test
def test_the_part_trains_with_the_kernel() -> None:
    from llmtool.core.kernels.masked_swiglu.triton import masked_swiglu

    given = settings(tau=0.5)
    plain = layer(given, dtype=torch.float32).train().to(DEVICE)
    fast = method.SparseSwiGLU(parse_config(RAW), 0, given, {"masked_swiglu": masked_swiglu}).train().to(DEVICE)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    for part in (plain, fast):
        torch.autograd.backward(part(x, x, carry()).square().sum())
    for (name, one), (_, two) in zip(plain.named_parameters(), fast.named_parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert (one.grad - two.grad).norm() <= 1e-5 * one.grad.norm(), name


@kernel_test
def test_a_planted_error_is_found() -> None:
    ours = SPEC.implementation(OURS).load()
    case = SPEC.cases("odd")[1]

    def one_weight(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = ours(gate, up, weights.roll(1, -1))
        return y

    def no_gradient(gate: torch.Tensor, up: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = ours(gate, up, weights.detach()) + 0 * weights.sum()
        return y

    assert not check(SPEC, one_weight, case, torch.float32, "forward", DEVICE).passed
    assert not check(SPEC, no_gradient, case, torch.float32, "training", DEVICE).passed
