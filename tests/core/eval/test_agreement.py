"""The figures of a comparison, against the definition written out."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from llmtool.core.eval import agreement  # noqa: E402
from llmtool.core.eval.agreement import compare_logits  # noqa: E402

GENERATOR = torch.Generator().manual_seed(3)
A, B = torch.randn(40, 40, generator=GENERATOR), torch.randn(40, 40, generator=GENERATOR)
ROWS = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11, 39, 0]]


def bigram(table: Any) -> Any:
    """A model whose logits depend on the last token only."""
    return lambda ids: table[ids]


def by_definition() -> dict[str, Any]:
    """Plain Python, one position at a time."""
    kls, differences, same, losses = [], [], [], []
    for row in ROWS:
        for place, token in enumerate(row):
            p, q = (torch.softmax(table[token].double(), 0).tolist() for table in (A, B))
            kls.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
            differences.append(max(abs(x - y) for x, y in zip(A[token].tolist(), B[token].tolist(), strict=True)))
            same.append(p.index(max(p)) == q.index(max(q)))
            if place + 1 < len(row):
                losses.append((-math.log(p[row[place + 1]]), -math.log(q[row[place + 1]])))
    means = tuple(sum(side) / len(losses) for side in zip(*losses, strict=True))
    facts = {"kl": sum(kls) / len(kls), "kl_max": max(kls), "largest": max(differences)}
    return {**facts, "tokens": len(kls), "top1": sum(same) / len(same), "losses": means}


@pytest.mark.parametrize("positions", [1, 3, 64])
def test_figures(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "POSITIONS", positions)
    found = compare_logits(bigram(A), bigram(B), ROWS)
    for name, value in by_definition().items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12), name
    assert not found.identical


def test_a_model_and_itself() -> None:
    found = compare_logits(bigram(A), bigram(A.clone()), ROWS)
    assert (found.identical, found.kl, found.kl_max, found.largest, found.top1) == (True, 0, 0, 0, 1)
    close = A.clone()
    close[39, 3] += 1e-6
    assert not compare_logits(bigram(A), bigram(close), ROWS).identical


def test_a_token_that_is_ruled_out() -> None:
    """0 ln 0 is 0; what the norm allows and the other rules out is infinitely far."""
    norm, other = A.clone(), A.clone()
    norm[:, 20] = other[:, 20] = -math.inf
    both = compare_logits(bigram(norm), bigram(other), ROWS)
    assert (both.kl, both.largest) == (0, 0)
    assert compare_logits(bigram(norm), bigram(A), ROWS).kl > 0
    assert compare_logits(bigram(A), bigram(other), ROWS).kl == math.inf


@pytest.mark.parametrize("token", [1, 39])
def test_nan_stays_visible(token: int) -> None:
    broken = A.clone()
    broken[token, 5] = float("nan")
    for left, right in ((A, broken), (broken, A), (broken, broken)):
        found = compare_logits(bigram(left), bigram(right), ROWS)
        assert math.isnan(found.kl)
        assert math.isnan(found.kl_max)
        assert math.isnan(found.largest)
        assert not found.identical
        assert {key: found.figures()[key] for key in ("tokens", "kl")} == {"tokens": found.tokens, "kl": None}
