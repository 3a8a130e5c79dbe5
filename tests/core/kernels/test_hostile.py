"""What a kernel meets in somebody's hands and the usual cases do not have: layouts, ties, types, labels."""

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.kernels.choice import choose
from llmtool.core.kernels.dsmoe_ffn.reference import dsmoe_ffn as sparse_reference
from llmtool.core.kernels.linear_cross_entropy.reference import linear_cross_entropy as loss_reference
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.rope.reference import rope as rope_reference
from llmtool.core.kernels.spec import OURS
from llmtool.core.run.errors import UserError
from tests.core.kernels.gate import DEVICE, kernel_test


@kernel_test
def test_rope_of_tensors_that_are_not_dense() -> None:
    """Slices of a fused projection and of a longer sequence: the results lie densely, so their strides are others."""
    from llmtool.core.kernels.rope.triton import rope

    generator = torch.Generator().manual_seed(1)
    fused = torch.randn(2, 9, 4 + 2 + 2, 6, generator=generator).to(DEVICE)
    q, k = fused[:, 2:7, :4].transpose(1, 2), fused[:, 2:7, 4:6].transpose(1, 2)
    cos, sin = (torch.randn(2, 1, 5, 3, generator=generator).to(DEVICE) for _ in range(2))
    made, wanted = rope(q, k, cos, sin), rope_reference(q, k, cos, sin)
    for x, given, other in zip(made, (q, k), wanted, strict=True):
        assert x.stride() != given.stride()
        assert torch.allclose(x, other, atol=1e-6)


@kernel_test
@pytest.mark.parametrize("form", ["decode", "prefill"])
def test_a_gate_at_tau_is_closed(form: str) -> None:
    """sigmoid(0) is 0.5 to the last bit: at tau 0.5 the definition, g > tau, closes it."""
    compute = load_spec("dsmoe_ffn").implementation(form).load()
    generator = torch.Generator().manual_seed(2)
    x, gate, up = (torch.randn(n, 32, generator=generator).to(DEVICE) for n in (3, 64, 64))
    down = torch.randn(32, 64, generator=generator).to(DEVICE)
    router = torch.zeros(4, 32, device=DEVICE)
    bias = torch.tensor([0.0, 1.0, -1.0, 0.0], device=DEVICE)
    delta, gates = compute(x, gate, up, down, router, bias, 0.5, 1.0)
    wanted, open_ = sparse_reference(x, gate, up, down, router, bias, 0.5, 1.0)
    assert (gates > 0).tolist() == (open_ > 0).tolist() == [[False, True, False, False]] * 3
    assert torch.allclose(delta, wanted, atol=1e-3, rtol=1e-4)


@kernel_test
def test_a_label_out_of_range_reads_nothing() -> None:
    """Its loss and gradient are NaN, that of the others is theirs; -100 is ignored as ever."""
    from llmtool.core.kernels.linear_cross_entropy.triton import linear_cross_entropy

    generator = torch.Generator().manual_seed(3)
    h, weight = (torch.randn(n, 8, generator=generator).to(DEVICE).requires_grad_() for n in (6, 11))
    labels = torch.tensor([3, 11, -1, -100, 1 << 40, 10], device=DEVICE)
    losses = linear_cross_entropy(h, weight, labels)
    (dh,) = torch.autograd.grad(losses.sum(), h)
    assert losses.isnan().tolist() == dh.isnan().any(1).tolist() == [False, True, True, False, True, False]
    sound = torch.tensor([0, 3, 5], device=DEVICE)
    assert torch.allclose(
        losses[sound], loss_reference(h, weight, labels.where(losses.isfinite(), -100))[sound], atol=1e-5
    )


@kernel_test
@pytest.mark.parametrize("op", OPS)
def test_float64_is_refused(op: str) -> None:
    """The kernels compute in float32: what comes in as float64 would come back rounded, without a word."""
    spec = load_spec(op)
    inputs = spec.make_inputs(spec.cases("odd")[0], torch.float64, DEVICE, torch.Generator(DEVICE).manual_seed(1))
    with pytest.raises(TypeError, match="float64 was given"):
        spec.implementation(OURS).load()(*inputs)


@kernel_test
def test_float64_is_refused_where_kernels_are_chosen() -> None:
    with pytest.raises(UserError, match="compute in float32, and fp64 is asked for"):
        choose("triton", DEVICE, torch.float64)
    assert not choose("auto", DEVICE, torch.float64).kernels
