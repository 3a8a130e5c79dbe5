"""The masked-dense form is the literal definition, gradients included."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.autograd import gradcheck

from llmtool.core.model.config import ConfigError, parse_config
from llmtool.methods.dsmoe import reference
from llmtool.methods.dsmoe.part import GATES, SparseSwiGLU, read_settings
from tests.methods.dsmoe.models import RAW, carry, layer, settings

TAUS = (0.0, 0.2, 0.5, 0.8, 0.999)


def weights(part: SparseSwiGLU) -> reference.Weights:
    return reference.Weights(
        part.gate_proj.weight.detach(), part.up_proj.weight.detach(), part.down_proj.weight.detach(),
        part.router.weight.detach(), None if part.router.bias is None else part.router.bias.detach(),
    )  # fmt: skip


def inputs(rows: int = 2, length: int = 7, seed: int = 5) -> torch.Tensor:
    x = torch.randn(rows, length, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[0, 0] *= 1e3
    x[0, 1] = 0
    return x


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("bias", [True, False])
def test_masked_dense_is_the_definition(tau: float, bias: bool) -> None:
    part = layer(settings(tau=tau, router_bias=bias, scale=1.3)).eval()
    x, state = inputs(), carry()
    y = part(x, x, state)
    expected = reference.forward(weights(part), x.flatten(0, 1), tau, 1.3).view(x.shape)
    # By token: one of them is a thousand times as large as the others.
    assert ((y - expected).norm(dim=-1) <= 1e-14 * expected.norm(dim=-1) + 1e-300).all()
    gates = state.shared[f"{GATES}0"]
    g = torch.tensor([reference.gate(weights(part), token) for token in x.flatten(0, 1)], dtype=torch.float64)
    assert ((gates.flatten(0, 1) > 0) == (g > tau)).all()
    assert torch.where(g > tau, g, 0.0).sub(gates.flatten(0, 1)).abs().max() < 1e-14


def test_a_token_without_experts_adds_nothing() -> None:
    part = layer(settings(tau=0.5, router_bias=False)).eval()
    with torch.no_grad():
        part.router.weight.zero_()  # every gate is 0.5, and 0.5 is not above 0.5
    x, state = inputs(), carry()
    assert part(x, x, state).abs().max() == 0
    assert state.shared[f"{GATES}0"].abs().max() == 0


def test_a_bias_of_down_is_added_whatever_is_active() -> None:
    part = layer(settings(tau=0.999), mlp_bias=True).eval()
    x = inputs() * 0
    with torch.no_grad():
        part.router.bias.fill_(-5)
    assert part(x, x, carry()).equal(part.down_proj.bias.detach().expand(x.shape))


@pytest.mark.parametrize("straight_through", [True, False])
@pytest.mark.parametrize("tau", [0.2, 0.5, 0.8])
def test_gradient_of_the_logits(tau: float, straight_through: bool) -> None:
    part = layer(settings(tau=tau, scale=1.3, straight_through=straight_through)).train()
    x = inputs()
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, got: tuple[torch.Tensor, ...]) -> None:
        seen.append(got[0])

    dh = torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    part(x, x, carry()).backward(dh)
    flat = x.flatten(0, 1)
    expected = reference.logit_gradient(
        weights(part), flat, dh.flatten(0, 1), tau, 1.3, straight_through=straight_through
    )
    # dL/db is the sum over tokens of dL/dlogit, dL/dY the product with x.
    assert part.router.bias.grad is not None
    assert part.router.weight.grad is not None
    assert (part.router.bias.grad - expected.sum(0)).norm() <= 1e-13 * expected.norm()
    product = expected.T @ flat
    assert (part.router.weight.grad - product).norm() <= 1e-13 * product.norm()
    g = torch.tensor([reference.gate(weights(part), token) for token in flat])
    off = g <= tau
    assert off.any()
    assert (expected[off].abs().max() > 0) == straight_through


def test_training_computes_what_inference_does() -> None:
    part = layer(settings(tau=0.5))
    x = inputs()
    assert (part.train()(x, x, carry()) - part.eval()(x, x, carry())).abs().max() < 1e-12 * x.abs().max()


def test_gradients_of_weights_and_inputs() -> None:
    part = layer(settings(experts=4, layers=1, tau=0.3), std=0.3).eval()
    x = inputs(1, 3, 8)[:, 2:].clone().requires_grad_()
    assert gradcheck(lambda y: part(y, y, carry()), (x,))


def test_n_over_active_is_a_constant() -> None:
    """A finite difference with the straight-through gates: only S moves."""
    part = layer(settings(tau=0.5)).train()
    x = inputs()[:, 2:4]
    gates, w = part.route(x)
    count = (gates > 0).sum(-1, keepdim=True).clamp(min=1)
    g = torch.sigmoid(part.router(x))
    (grad,) = torch.autograd.grad(w.sum(), part.router.bias, retain_graph=True)
    (expected,) = torch.autograd.grad((g * 8 / count).sum(), part.router.bias)
    assert torch.allclose(grad, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: setattr(p, "scale", p.scale * 1.01),
        lambda p: setattr(p, "settings", replace(p.settings, tau=0.55)),
        lambda p: p.router.bias.data.add_(0.01),
        lambda p: p.down_proj.weight.data.copy_(p.down_proj.weight.roll(10, 1)),
        lambda p: p.router.weight.data.copy_(p.router.weight.roll(1, 0)),
    ],
)
def test_mutations_are_seen(change: object) -> None:
    part = layer(settings(tau=0.5)).eval()
    x = inputs(4, 16)[1:]  # without the token a thousand times as large, which outweighs all others
    expected = reference.forward(weights(part), x.flatten(0, 1), 0.5).view(x.shape)
    assert callable(change)
    change(part)
    assert (part(x, x, carry()) - expected).norm() > 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("experts", 7, "do not divide"), ("experts", "8", "do not divide"), ("layers", [2, 1], "ascending"),
        ("layers", [0, 9], "ascending"), ("gate_scale", [1.0], "each of layers"), ("tau", 1.0, "threshold"),
        ("tau", "x", "could not convert"), ("version", 3, "only 1 and 2 are"), ("version", True, "only 1 and 2 are"),
        ("form", "unit", "form is not"), ("tua", 0.5, "tua is not understood"),
        ("router_bias", 3, "neither on nor off"), ("gate_scale", [1, 0, 1], "positive"), ("tau", None, "float"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_line(field: str, value: object, said: str) -> None:
    good = {"name": "dsmoe", "version": 1, "experts": 8, "layers": [0, 1, 2], "gate_scale": [1, 1, 1]}
    config = parse_config(RAW)
    assert read_settings(good, config).tau == 0.5
    with pytest.raises(ConfigError, match=said):
        read_settings({**good, field: value}, config)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("form", "units", "neither of paper, unit"), ("partition", 1, "neither of contiguous"),
        ("always_on", 9, "no number of the 8 blocks"), ("always_on", True, "no number"), ("off_mean", 3, "on nor off"),
        ("gate_scale", [1, 1, 1.1], "blocks of the unit form count 1"), ("form", "paper", "belongs to the unit form"),
    ],
)  # fmt: skip
def test_bad_settings_of_version_2(field: str, value: object, said: str) -> None:
    good = {
        "name": "dsmoe", "version": 2, "experts": 8, "layers": [0, 1, 2], "gate_scale": [1, 1, 1], "form": "unit",
        "partition": "importance", "always_on": 2, "off_mean": True, "refit": False, "beyond_paper": ["words"],
    }  # fmt: skip
    config = parse_config(RAW)
    found = read_settings(good, config)
    assert (found.unit, found.partition, found.always_on, found.off_mean) == (True, "importance", 2, True)
    with pytest.raises(ConfigError, match=said):
        read_settings({**good, field: value}, config)


UNIT: dict[str, Any] = {"form": "unit", "tau": 0.5}


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("means", [True, False])
def test_unit_form_is_the_definition(tau: float, means: bool) -> None:
    part = layer(settings(form="unit", tau=tau, off_mean=means)).eval()
    x = inputs()
    off = part.off_mean.detach() if part.off_mean is not None else None
    expected = reference.forward_unit(weights(part), x.flatten(0, 1), tau, off).view(x.shape)
    y = part(x, x, carry())
    assert ((y - expected).norm(dim=-1) <= 1e-14 * (1 + expected.norm(dim=-1))).all()
    assert part.train()(x, x, carry()).equal(y)


@pytest.mark.parametrize("means", [True, False])
def test_gradients_of_the_unit_form(means: bool) -> None:
    part = layer(settings(**UNIT, off_mean=means)).train()
    x = inputs()
    dh = torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    part(x, x, carry()).backward(dh)
    flat = x.flatten(0, 1)
    off = part.off_mean.detach() if part.off_mean is not None else None
    expected = reference.logit_gradient_unit(weights(part), flat, dh.flatten(0, 1), off)
    assert part.router.weight.grad is not None
    product = expected.T @ flat
    assert (part.router.weight.grad - product).norm() <= 1e-13 * product.norm()
    if part.off_mean is not None:
        g = torch.tensor([reference.gate(weights(part), token) for token in flat], dtype=torch.float64)
        assert part.off_mean.grad is not None
        assert torch.allclose(part.off_mean.grad, (g <= 0.5).double().T @ dh.flatten(0, 1), rtol=1e-12)


def test_the_unit_form_is_not_the_papers() -> None:
    x = inputs(4, 16)[1:]
    unit, paper = layer(settings(**UNIT)).eval(), layer(settings(tau=0.5)).eval()
    assert (unit(x, x, carry()) - paper(x, x, carry())).norm() > 0.1 * unit(x, x, carry()).norm()


@pytest.mark.parametrize("means", [True, False])
@pytest.mark.parametrize("length", [1, 20])
def test_a_kernel_computes_the_unit_form(means: bool, length: int) -> None:
    """A CPU's kernel skips blocks; what closed ones add comes after it."""
    from llmtool.core.kernels.dsmoe_ffn.reference import dsmoe_ffn
    from llmtool.core.kernels.dsmoe_ffn.skip import dsmoe_ffn as skip

    part = layer(settings(**UNIT, off_mean=means)).eval()
    x = inputs(2, 20)[:, -length:]
    expected = part(x, x, carry()).detach()
    for kernel in (skip, dsmoe_ffn):
        part.kernel = kernel
        with torch.inference_mode():
            found = part(x, x, carry())
        assert ((found - expected).norm(dim=-1) <= 1e-13 * (1 + expected.norm(dim=-1))).all()


def test_autocast_leaves_the_gates_in_float32() -> None:
    part = layer(settings()).float()
    x = inputs().float()
    exact = part.route(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert part.route(x)[0].equal(exact)


def test_a_wrapped_projection_is_not_passed_by() -> None:
    """A kernel reads weights, so it would leave out the adapters of LoRA."""

    class Wrapped(torch.nn.Linear):
        pass

    def kernel(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise ZeroDivisionError("the kernel ran")

    part = layer(settings()).eval()
    part.kernel = kernel
    x = inputs()
    with torch.inference_mode():
        with pytest.raises(ZeroDivisionError):
            part(x, x, carry())
        part.up_proj.__class__ = Wrapped
        part(x, x, carry())
