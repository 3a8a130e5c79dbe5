"""The figures of a comparison, against the definition written out."""

import math
from typing import Any

import pytest

from llmtool.core.run.errors import UserError

torch = pytest.importorskip("torch")
from llmtool.core.eval import comparison  # noqa: E402
from llmtool.core.eval.comparison import compare  # noqa: E402

GENERATOR = torch.Generator().manual_seed(3)
A, B = torch.randn(40, 40, generator=GENERATOR), torch.randn(40, 40, generator=GENERATOR)
WINDOWS = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11, 39, 0]]


def bigram(table: Any) -> Any:
    """A model whose logits depend on the last token only."""
    return lambda ids: table[ids]


def by_definition() -> dict[str, float]:
    """Plain Python, one position at a time."""
    kls, differences, same, losses = [], [], [], []
    for window in WINDOWS:
        for place, token in enumerate(window):
            p, q = (torch.softmax(table[token].double(), 0).tolist() for table in (A, B))
            kls.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
            differences.append(max(abs(x - y) for x, y in zip(A[token].tolist(), B[token].tolist(), strict=True)))
            same.append(p.index(max(p)) == q.index(max(q)))
            if place + 1 < len(window):
                losses.append((-math.log(p[window[place + 1]]), -math.log(q[window[place + 1]])))
    return {
        "tokens": len(kls),
        "kl": sum(kls) / len(kls),
        "kl_max": max(kls),
        "max_difference": max(differences),
        "top1_agreement": sum(same) / len(same),
        "loss_a": sum(a for a, _ in losses) / len(losses),
        "loss_b": sum(b for _, b in losses) / len(losses),
    }


@pytest.mark.parametrize("positions", [1, 3, 64])
def test_figures(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "POSITIONS", positions)
    found = compare(bigram(A), bigram(B), WINDOWS)
    for name, value in by_definition().items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12), name
    assert not found.identical
    assert found.passes(None)
    assert found.passes(found.kl)
    assert not found.passes(found.kl * 0.999)


def test_a_model_and_itself() -> None:
    found = compare(bigram(A), bigram(A.clone()), WINDOWS)
    assert (found.identical, found.kl, found.kl_max, found.max_difference, found.top1_agreement) == (True, 0, 0, 0, 1)
    assert found.passes(0.0)
    assert "identical, bit for bit" in "\n".join(found.lines())
    close = A.clone()
    close[39, 3] += 1e-6
    assert not compare(bigram(A), bigram(close), WINDOWS).identical


@pytest.mark.parametrize("token", [1, 39])
def test_nan_never_passes(token: int) -> None:
    broken = A.clone()
    broken[token, 5] = float("nan")
    for pair in ((A, broken), (broken, A), (broken, broken)):
        left, right = map(bigram, pair)
        found = compare(left, right, WINDOWS)
        assert not found.passes(1e9)
        assert math.isnan(found.kl_max)
        assert math.isnan(found.max_difference)
        assert found.to_json()["kl"] is None
        assert not found.identical


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="the vocabularies differ: 40 and 39 tokens"):
        compare(bigram(A), bigram(B[:, :39]), WINDOWS)
    with pytest.raises(UserError, match="no token to compare"):
        compare(bigram(A), bigram(B), [])
