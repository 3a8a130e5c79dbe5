"""Linear + cross-entropy: kernel and chunked version against the reference, and that against the training loop's."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.kernels.linear_cross_entropy import chunked
from llmtool.core.kernels.linear_cross_entropy.reference import IGNORED
from llmtool.core.kernels.linear_cross_entropy.reference import linear_cross_entropy as reference
from llmtool.core.kernels.linear_cross_entropy.spec import SPEC
from llmtool.core.kernels.spec import Case, case
from llmtool.core.train import objective
from tests.core.kernels.gate import DEVICE, kernel_test, passes

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def kernel() -> Loss:
    from llmtool.core.kernels.linear_cross_entropy.triton import linear_cross_entropy

    return linear_cross_entropy


@kernel_test
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("rows", [1, 6, 1000])
def test_chunked_equals_reference(case: Case, dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "chunk_rows", lambda *_: rows)
    passes(SPEC, case, dtype, "lean")


def draw(tokens: int = 13, width: int = 8, vocabulary: int = 29) -> tuple[torch.Tensor, ...]:
    shape = case(tokens=tokens, width=width, vocabulary=vocabulary)
    made = SPEC.make_inputs(shape, torch.float32, DEVICE, torch.Generator().manual_seed(5))
    return made[0].requires_grad_(), made[1].requires_grad_(), made[2]


def gradients(loss: Loss, upstream: torch.Tensor, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss(*given), given[:2], upstream)


@kernel_test
@pytest.mark.parametrize("kind", ["lean", "ours"])
def test_any_upstream_gradient(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all, as autograd expands it, and one for each token, equal or not: each path gives the reference's
    gradients, and only the first is known without a look at the numbers."""
    loss = kernel() if kind == "ours" else chunked.linear_cross_entropy
    given = draw()
    again, called = chunked.again, []

    def counted(*arguments: Any) -> torch.Tensor:
        called.append(1)
        return again(*arguments)

    monkeypatch.setattr(chunked, "again", counted)
    one = torch.full((1,), 0.7, device=DEVICE).expand(13)
    other_at_ignored = one.where(given[2] != IGNORED, 5.0)
    cases = ((one, 0), (one.contiguous(), 1), (other_at_ignored, 2), (torch.randn(13, device=DEVICE), 3))
    for upstream, computed_again in cases:
        for x, y in zip(gradients(loss, upstream, given), gradients(reference, upstream, given), strict=True):
            assert torch.allclose(x, y, atol=1e-6)
        assert len(called) == computed_again


def test_only_what_is_wanted_is_computed() -> None:
    """No gradient where none is asked for: evaluation, frozen output layers."""
    h, weight, labels = draw()
    with torch.no_grad():
        assert not chunked.linear_cross_entropy(h, weight, labels).requires_grad
    loss = chunked.linear_cross_entropy(h, weight.detach(), labels)
    torch.autograd.backward(loss.sum())
    assert h.grad is not None


@pytest.mark.parametrize("tokens", [0, 1])
def test_nothing_to_predict(tokens: int) -> None:
    h, weight, labels = draw(tokens=max(tokens, 1))
    h, labels = h[:tokens], torch.full_like(labels[:tokens], IGNORED)
    loss = chunked.linear_cross_entropy(h, weight, labels)
    torch.autograd.backward(loss.sum())
    assert not loss.detach().any()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_extreme_logits() -> None:
    """A logit of 1e4 overflows exp, a gap of 200 underflows it."""
    h = torch.tensor([[1e4, -1e4], [200.0, 0.0]], requires_grad=True)
    weight = torch.eye(2, requires_grad=True)
    labels = torch.tensor([1, 1])
    assert torch.equal(chunked.linear_cross_entropy(h, weight, labels), reference(h, weight, labels))


@kernel_test
def test_extreme_logits_in_the_kernel() -> None:
    h = torch.tensor([[1e4, -1e4], [200.0, 0.0]], device=DEVICE)
    weight, labels = torch.eye(2, device=DEVICE), torch.tensor([1, 1], device=DEVICE)
    assert torch.allclose(kernel()(h, weight, labels), reference(h, weight, labels))


def test_reference_is_the_training_loops() -> None:
    assert objective.IGNORED == IGNORED
    h, weight, labels = draw()
    assert torch.equal(reference(h, weight, labels), objective.linear_cross_entropy(h, weight, labels))


def test_chunks() -> None:
    assert [(cut.start, cut.stop) for cut in chunked.chunks(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert chunked.chunk_rows(8192, 128256, 2) == 1024
    assert chunked.chunk_rows(512, 8192, 4) == 1024
    assert chunked.chunk_rows(0, 8192, 4) >= 1


def test_autocast_is_followed() -> None:
    """As F.linear does it: the product in bfloat16, gradients in the parameters' own type."""
    h, weight, labels = (x.cpu() for x in draw())
    found = []
    for loss in (reference, chunked.linear_cross_entropy):
        with torch.autocast("cpu", torch.bfloat16):
            losses = loss(h, weight, labels)
        found.append((losses, *torch.autograd.grad(losses.mean(), (h, weight))))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert other.dtype == torch.float32
        assert torch.allclose(one, other, atol=2e-3)
