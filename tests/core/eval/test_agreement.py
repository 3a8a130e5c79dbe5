"""KL, largest difference and top-1 agreement against worked examples."""

import math

import pytest

torch = pytest.importorskip("torch")

from llmtool.core.eval.agreement import LogitAgreement, compare_logits  # noqa: E402


def test_by_hand() -> None:
    found = LogitAgreement()
    p, q = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]), torch.tensor([[[0.75, 0.25], [0.9, 0.1]]])
    found.add(p.log(), q.log())
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert (found.tokens, found.same) == (2, 2)
    assert found.kl == pytest.approx(first / 2)
    assert found.kl_max == pytest.approx(first)
    assert found.largest == pytest.approx(math.log(2))
    found.add(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]]))
    assert found.top1 == pytest.approx(2 / 3)


def test_the_first_is_the_norm() -> None:
    a, b = torch.tensor([[[0.0, 2.0, 1.0]]]), torch.tensor([[[0.0, 0.0, 0.0]]])
    there, back = LogitAgreement(), LogitAgreement()
    there.add(a, b)
    back.add(b, a)
    assert there.kl == pytest.approx(float((a.softmax(-1) * (a.log_softmax(-1) - b.log_softmax(-1))).sum()))
    assert there.kl != pytest.approx(back.kl)


def test_shifted_logits_are_the_same_distribution() -> None:
    logits = torch.randn(1, 4, 9)
    found = compare_logits(lambda ids: logits, lambda ids: logits + 5, [[1, 2, 3, 4]])
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert found.largest == pytest.approx(5)
    assert found.top1 == 1


def test_nan_is_no_agreement() -> None:
    found = compare_logits(lambda ids: torch.zeros(1, 1, 2), lambda ids: torch.full((1, 1, 2), torch.nan), [[1]])
    assert math.isnan(found.largest)
    assert not found.kl <= 1e9
