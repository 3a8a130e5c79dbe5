"""The order of channels, and the routers of the unit form that are fitted to it."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.methods.dsmoe import ridge, router_init
from llmtool.methods.dsmoe.partition import importance, order, reorder
from tests.methods.dsmoe.models import settings


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(width: int = 24, inner: int = 64, tokens: int = 400) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Weights whose channels differ in size, and inputs with one massive token."""
    sizes = torch.logspace(0, -1, inner)[torch.randperm(inner, generator=torch.Generator().manual_seed(8))]
    weights = {
        "gate_proj.weight": drawn(inner, width, seed=1), "up_proj.weight": drawn(inner, width, seed=2),
        "down_proj.weight": drawn(width, inner, seed=3) * sizes,
    }  # fmt: skip
    x = drawn(tokens, width, seed=4) + drawn(width, seed=7)
    x[0] *= 1e4
    return weights, x


def activations(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x @ weights["gate_proj.weight"].T) * (x @ weights["up_proj.weight"].T)


def test_importance_literally() -> None:
    weights, x = layer()
    a, down = activations(weights, x), weights["down_proj.weight"]
    wanted = torch.zeros(64, dtype=torch.float64)
    for token in a.double():
        c = torch.stack([token[j].abs() * down[:, j].double().norm() for j in range(64)])
        wanted += c.square() / c.square().sum() / len(a)
    p = importance(a, down)
    assert torch.allclose(p, wanted, rtol=1e-12)
    assert float(p.sum()) == pytest.approx(1)
    # The massive token counts as one of 400.
    assert torch.allclose(importance(a[1:], down), p, atol=1 / 200)
    assert importance(torch.zeros(3, 4), torch.ones(2, 4)).equal(torch.zeros(4, dtype=torch.float64))


def test_order_is_a_bijection_with_ties_by_index() -> None:
    p = torch.tensor([0.1, 0.3, 0.1, 0.3, 0.2])
    assert order(p).tolist() == [1, 3, 4, 0, 2]
    found = order(drawn(1000).round(decimals=1))
    assert found.sort().values.equal(torch.arange(1000))


def test_reorder_gathers() -> None:
    permutation = order(drawn(64))
    for name, tensor in {
        "gate_proj.weight": drawn(64, 8), "up_proj.weight": drawn(64, 8), "gate_proj.bias": drawn(64),
        "up_proj.bias": drawn(64),
    }.items():  # fmt: skip
        assert all(reorder(name, tensor, permutation)[i].equal(tensor[j]) for i, j in enumerate(permutation))
    down = drawn(8, 64)
    assert all(
        reorder("down_proj.weight", down, permutation)[:, i].equal(down[:, j]) for i, j in enumerate(permutation)
    )
    bias = drawn(8)
    assert reorder("down_proj.bias", bias, permutation) is bias


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_another_order_is_the_same_layer(dtype: torch.dtype, bar: float) -> None:
    weights, x = layer()
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    ordered = order(importance(activations(weights, x.to(dtype)), weights["down_proj.weight"]))
    moved = {name: reorder(name, tensor, ordered) for name, tensor in weights.items()}
    before = activations(weights, x.to(dtype)) @ weights["down_proj.weight"].T
    after = activations(moved, x.to(dtype)) @ moved["down_proj.weight"].T
    assert ((before - after).norm(dim=-1) <= bar * before.norm(dim=-1)).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_threshold(share: float) -> None:
    logits = drawn(101, 8)
    found = float((logits > ridge.threshold(logits, share)).float().mean())
    assert abs(found * 808 - share * 808) <= 0.5


@pytest.mark.parametrize("always", [0, 2])
def test_routers(always: int) -> None:
    """A regression finds what a linear router can; the share holds within a pair where it was set."""
    x, truth = drawn(800, 24), drawn(8, 24, seed=5)
    y = (x @ truth.T).sigmoid()
    router = ridge.routed(x, y, 0.5, always, 0.5, 600)
    assert router.bias is not None
    mask = x @ router.weight.T + router.bias > 0
    assert abs(int(mask[600:].sum()) - 800) <= 1
    assert router.weight[:always].equal(torch.zeros(always, 24))
    assert router.bias[:always].equal(torch.full((always,), 30.0))
    assert router.bias.bfloat16().float()[:always].equal(router.bias[:always])
    best = y[600:, always:] > y[600:, always:].median()
    assert (mask[600:, always:] == best).float().mean() > (0.9 if not always else 0.7)
    # Whatever a token looks like, the first blocks are on.
    far = x * 1e4 @ router.weight.T + router.bias
    assert (far.sigmoid()[:, :always] > 0.999).all()


def test_tau_moves_the_bias_and_not_the_mask() -> None:
    x = drawn(800, 24)
    y = (x @ drawn(8, 24, seed=5).T).sigmoid()
    masks = []
    for tau in (0.2, 0.5, 0.9):
        router = ridge.routed(x, y, 0.5, 0, tau, 600)
        assert router.bias is not None
        masks.append((x @ router.weight.T + router.bias).sigmoid() > tau)
    assert (masks[0] != masks[1]).sum() <= 1
    assert (masks[2] != masks[1]).sum() <= 1


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_quiet_columns_get_no_large_weights(kind: str) -> None:
    """What a norm's weight of 1e-5 leaves of a column may not become a router's weight of 1e5: training moves both."""
    x, truth = drawn(800, 24), drawn(8, 24, seed=5)
    y = (x @ truth.T).sigmoid()
    x[:, 3] *= 1e-5
    if kind == "ridge":
        weight, bias = ridge.regression(x, y)
    else:
        weight, bias = router_init.regress(x, y > 0.5)
    sizes = weight.norm(dim=0)
    assert sizes[3] < 10 * sizes.median()
    found = x @ weight.T + bias
    assert ((found > found.median()) == (y > y.median())).float().mean() > 0.85
    loud = drawn(800, 24)
    loud[:, 3] *= 1e4
    assert torch.allclose(router_init.spreads(loud), loud.std(0, correction=0))


def fitted(kind: str = "ridge", **changes: Any) -> ridge.Fitted:
    weights, x = layer()
    found, delta = ridge.fit_layer(
        weights, activations(weights, x), x, settings(**{"form": "unit", "partition": "importance", **changes}),
        ridge.Plan(0.5, kind),
    )  # fmt: skip
    assert delta.shape == x.shape
    return found


def test_means_and_a_refit_bring_the_layer_nearer() -> None:
    plain, means, both = fitted(), fitted(off_mean=True), fitted(off_mean=True, refit=True)
    assert means.facts["error"] <= plain.facts["error"] == plain.facts["routed"]
    assert both.facts["error"] < means.facts["error"]
    assert plain.down is None
    assert both.down is not None
    assert fitted(partition="contiguous").facts["routed"] > 1.3 * plain.facts["routed"]
    assert fitted(partition="contiguous").order.tolist() == list(range(64))
    static = fitted("static")
    assert static.facts["routed"] == static.facts["static"]
    assert static.router is not None
    assert static.router.bias is not None
    assert static.router.bias.tolist() == [30.0] * 4 + [-30.0] * 4


def test_means_are_those_of_closed_tokens() -> None:
    a, down = drawn(30, 16), drawn(6, 16)
    mask = drawn(30, 4, seed=6) > 0
    mask[:, 3] = True
    means = ridge.means_where_closed(a, down, mask, torch.ones(30, 6))
    for i in range(3):
        outputs = torch.stack([down[:, 4 * i : 4 * i + 4] @ row[4 * i : 4 * i + 4] for row in a])
        assert torch.allclose(means[i], outputs[~mask[:, i]].mean(0), atol=1e-6)
    assert means[3].abs().max() == 0
    # A massive token that every block closes moves nothing.
    others = torch.arange(30) != 5
    without = ridge.means_where_closed(a[others], down, mask[others], torch.ones(29, 6))
    mask[5], a[5], o = False, 1e6, torch.ones(30, 6)
    o[5] = 1e8
    assert torch.allclose(ridge.means_where_closed(a, down, mask, o)[:3], without[:3], atol=1e-3)


def test_a_refit_that_does_not_help_is_not_taken() -> None:
    """Every block open: the old down_proj has no error."""
    a, down = drawn(200, 16), drawn(6, 16)
    found, _ = ridge.refitted(a, torch.ones(200, 4, dtype=torch.bool), a @ down.T, torch.ones(200), down, None, 150)
    assert found.equal(down)


def test_a_refit_leads_back_to_the_dense_stream() -> None:
    """What earlier layers lack, and this one's open channels can give, is given."""
    weights, x = layer()
    a = activations(weights, x)
    asked = settings(form="unit", partition="importance", refit=True)
    plain, out = ridge.fit_layer(weights, a, x, asked, ridge.Plan(0.5))
    before = drawn(*x.shape, seed=11)
    lost = a[:, plain.order[:16]] @ drawn(16, 24, seed=12)  # of the two blocks that nearly every token opens
    after = before + a @ weights["down_proj.weight"].T + lost
    found, guided = ridge.fit_layer(weights, a, x, asked, ridge.Plan(0.5), ridge.Guide(after, before))
    assert found.facts["stream"] < 0.5 * ridge.error(after[300:], before[300:] + out[300:])
    assert found.facts["stream"] == pytest.approx(ridge.error(after[300:], before[300:] + guided[300:]), rel=1e-4)
