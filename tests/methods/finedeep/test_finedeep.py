"""Finedeep: the fast path is the definition, planted mistakes are found, M = 1 and the ramp begin dense."""

from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from llmtool.commands.convert.upcycle import convert_finedeep
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.new import initialise
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import Batch
from llmtool.core.train.optimizers import Optimizers, OptimizerSettings
from llmtool.methods.finedeep import reference
from llmtool.methods.finedeep.objective import Scores, term
from llmtool.methods.finedeep.part import ROUTERS, FinedeepFFN, Settings, SubLayer, read_settings
from llmtool.model import build, load_model
from tests.core.kernels.gate import kernel_test
from tests.methods.dsmoe.models import RAW, save_dense
from tests.methods.upcycled import GRANITE, IDS, QUIET, carry, config, logits, normed, randomised, stream

NORM = torch.linspace(0.5, 1.5, 32, dtype=torch.float64)


def made(
    sublayers: int, experts: int, router: str = "output-dot", seed: int = 1, base: Config | None = None
) -> FinedeepFFN:
    part = FinedeepFFN(base or config(), 0, Settings((0,), sublayers, experts, router))
    assert isinstance(randomised(part, seed=seed), FinedeepFFN)
    for sub in part.sub[1:]:
        assert isinstance(sub, SubLayer)
        assert sub.norm is not None
        sub.norm = Precise(sub.norm.get_parameter("weight"))
    return part


class Precise(torch.nn.Module):
    """RMSNorm in float64: the decoder's is float32, and would hide what 1e-12 shows."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return normed(h, self.weight, 1e-5)


def subs_of(part: FinedeepFFN) -> list[reference.SubLayer]:
    found = []
    for sub in part.sub:
        assert isinstance(sub, SubLayer)
        experts = sub.settings.experts
        gate, up = (x.weight.detach().view(experts, -1, 32) for x in (sub.gate_proj, sub.up_proj))
        down = sub.down_proj.weight.detach().view(32, experts, -1).transpose(0, 1)
        none = torch.zeros(experts, 32, dtype=torch.float64)
        router = sub.router.detach() if hasattr(sub, "router") else none
        bias = sub.bias.detach() if hasattr(sub, "bias") else none[:, 0]
        weight = NORM if sub.norm is None else sub.norm.get_parameter("weight").detach()
        found.append(reference.SubLayer((gate, up, down), router, bias, weight))
    return found


@torch.no_grad()
def difference(part: FinedeepFFN, h: torch.Tensor, router: str = "output-dot", t: float = 1.0, m: float = 1.0) -> float:
    flat = h.flatten(0, 1)
    wanted = reference.forward(subs_of(part), flat, 1e-5, 2.0, router, t, m) - flat
    found = m * part(normed(h, NORM, 1e-5), h, carry()).flatten(0, 1)
    # A score of 1e-15 leaves of the definition's update what the stream's own rounding does.
    return float((found - wanted).norm() / (wanted.norm() + flat.norm()))


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize(("sublayers", "experts"), [(1, 1), (1, 8), (2, 4), (4, 1), (2, 5)])
def test_it_is_the_definition(sublayers: int, experts: int, router: str) -> None:
    part = made(sublayers, experts, router)
    assert difference(part, stream(2, 5), router) < 1e-12
    assert difference(part, stream(1, 1), router) < 1e-12
    part.blend = torch.tensor(0.3, dtype=torch.float64)
    assert difference(part, stream(2, 5), router, 0.3) < 1e-12


def test_later_sublayers_read_what_granite_adds() -> None:
    part, h = made(3, 2, base=config(**GRANITE, intermediate_size=96)), stream(2, 5)
    assert difference(part, h, m=0.22) < 1e-12
    part.blend = torch.tensor(0.3, dtype=torch.float64)
    assert difference(part, h, t=0.3, m=0.22) < 1e-12
    part.residual_scale = 1.0
    assert difference(part, h, t=0.3, m=0.22) > 1e-3


def through(part: FinedeepFFN, compute: Any) -> list[torch.Tensor]:
    """delta and the gradients of every parameter, in float32; compute: the op's code, None for torch's operators."""
    copy = deepcopy(part).float()
    for sub in copy.sub:
        assert isinstance(sub, SubLayer)
        sub.kernels = {} if compute is None else {"masked_swiglu": compute}
    h = stream(2, 5).float()
    delta = copy(normed(h.double(), NORM, 1e-5).float(), h, carry())
    (delta * torch.linspace(-1, 1, delta.numel()).view(delta.shape)).sum().backward()
    return [delta.detach(), *(p.grad for p in copy.parameters() if p.grad is not None)]


@pytest.mark.parametrize("kind", ["reference", pytest.param("triton", marks=kernel_test)])
def test_the_kernel_computes_what_the_operators_do(kind: str) -> None:
    """What --kernels hands to a part: weights per block after 2 s, gradients of the router through them."""
    compute = import_module(f"llmtool.core.kernels.masked_swiglu.{kind}").masked_swiglu
    for sublayers, experts in ((1, 8), (2, 5), (4, 1)):
        part = made(sublayers, experts)
        wanted, found = through(part, None), through(part, compute)
        assert len(wanted) == len(found) >= 1 + 4 * sublayers
        for one, other in zip(wanted, found, strict=True):
            assert (one - other).norm() < 1e-5 * (1 + one.norm())
        halved = through(part, lambda gate, up, weights: compute(gate, up, weights / 2))
        assert (halved[0] - wanted[0]).norm() > 1e-2 * wanted[0].norm()


def score_of_the_input(part: Any, patch: pytest.MonkeyPatch) -> None:
    for sub in part.sub:
        patch.setattr(sub, "scores", lambda x, a, sub=sub: torch.sigmoid(F.linear(x, sub.router, sub.bias)))


def one_norm(part: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part.sub[1], "norm", Precise(torch.nn.Parameter(NORM)))


def no_residual_between(part: Any, patch: pytest.MonkeyPatch) -> None:
    def forward(x: torch.Tensor, h: torch.Tensor, state: Carry) -> torch.Tensor:
        return torch.stack([sub(sub.norm(h) if sub.norm else x, state) for sub in part.sub]).sum(0)

    patch.setattr(part, "forward", forward)


def half_scale(part: Any, patch: pytest.MonkeyPatch) -> None:
    for sub in part.sub:
        patch.setattr(sub, "settings", Settings((0,), 2, 4, scale=1.0))


def blocks_in_another_order(part: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part.sub[0], "router", torch.nn.Parameter(part.sub[0].router.detach().roll(1, 0)))


@pytest.mark.parametrize(
    "mutation", [score_of_the_input, one_norm, no_residual_between, half_scale, blocks_in_another_order]
)
def test_planted_mistakes_are_found(
    mutation: Callable[[Any, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = made(2, 4), made(2, 4)
    h = stream(2, 5)
    assert difference(right, h) < 1e-12
    mutation(wrong, monkeypatch)
    x = normed(h, NORM, 1e-5)
    wanted = right(x, h, carry())
    assert float((wrong(x, h, carry()) - wanted).norm() / wanted.norm()) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_one_sublayer_is_the_dense_model_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    dense = save_dense(tmp_path / "m", dtype=dtype)
    plan = convert_finedeep(dense, tmp_path / "f", experts=5, console=QUIET)
    assert plan["verified"]["identical"]
    assert logits(tmp_path / "f").equal(logits(dense))


def test_the_ramp_begins_at_the_dense_model_and_ends_at_finedeep(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m", dtype=torch.float64)
    plan = convert_finedeep(dense, tmp_path / "f", sublayers=2, experts=4, console=QUIET)
    assert plan["verified"]["relative_error"] > 0.01
    model = load_model(tmp_path / "f")
    sequential, wanted = model(IDS), logits(dense)
    assert (sequential - wanted).abs().max() > 0.01
    moved = term(model.config, model.config.methods[0], {"ramp": "4"})
    assert isinstance(moved, Scores)
    moved.before_step(model.decoder, 0, 10)
    assert (model(IDS) - wanted).abs().max() < 1e-9
    _, state = model.decoder.hidden(IDS)
    figures: dict[str, torch.Tensor] = {}
    moved.add(torch.tensor(0.0), figures, state, Batch(IDS, IDS))
    assert figures["finedeep.score"].tolist() == [0.5] * 6
    assert float(figures["finedeep.blend"]) == 0
    moved.before_step(model.decoder, 2, 10)
    half = model(IDS)
    assert min(float((half - other).abs().max()) for other in (sequential, wanted)) > 1e-3
    moved.before_step(model.decoder, 4, 10)
    assert model(IDS).equal(sequential)
    with pytest.raises(UserError, match="the ramp must end before"):
        moved.before_step(model.decoder, 0, 4)


def test_a_router_of_zeros_has_a_gradient() -> None:
    part = made(1, 4)
    sub = part.sub[0]
    assert isinstance(sub, SubLayer)
    with torch.no_grad():
        sub.router.zero_()
        sub.bias.zero_()
    x = stream(1, 4)
    part(x, x, carry()).square().sum().backward()
    assert sub.router.grad is not None
    assert float(sub.router.grad.abs().min()) > 0
    values = x[:, :2, :].clone().requires_grad_()
    assert gradcheck(lambda y: part(y, y, carry()), (values,))


def test_the_score_is_float32_in_bf16_training() -> None:
    part = made(1, 4).float()
    x = stream(2, 5, dtype=torch.float32)
    state, half = carry(), carry()
    part(x, x, state)
    with torch.autocast("cpu", torch.bfloat16):
        y = part(x, x, half)
    found, wanted = half.shared["finedeep.scores.0.0"], state.shared["finedeep.scores.0.0"]
    assert (y.dtype, found.dtype) == (torch.bfloat16, torch.float32)
    assert torch.allclose(found, wanted, atol=0.1)


def test_vectors_are_no_matrices_for_the_optimizer_and_new_maps_count_every_addition() -> None:
    raw = {**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [
        {"name": "finedeep", "version": 1, "sublayers": 2, "experts": 4}]}}  # fmt: skip
    from llmtool.core.model.config import parse_config

    decoder = build(parse_config(raw))
    initialise(decoder, 0, 0.1)
    mlp: Any = decoder.model.layers[0].mlp
    additions = 3 * (1 + 2)
    assert float(mlp.sub[1].down_proj.weight.std()) == pytest.approx(0.1 / additions**0.5, rel=0.1)
    assert float(mlp.sub[1].router.abs().max()) == 0
    vector = term(decoder.config, decoder.config.methods[0], {}).vector
    optimizers = Optimizers(decoder.named_parameters(), OptimizerSettings("muon"), vector)
    groups = {optimizers.names[id(p)]: group["weight_decay"] for o in optimizers._all for group in o.param_groups
              for p in group["params"]}  # fmt: skip
    assert groups["model.layers.0.mlp.sub.0.router"] == 0
    assert groups["model.layers.0.mlp.sub.0.gate_proj.weight"] > 0


def test_bad_input(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    with pytest.raises(UserError, match="2 x 7 experts do not divide intermediate_size 80; 70 or 84 would"):
        convert_finedeep(dense, tmp_path / "x", sublayers=2, experts=7, console=QUIET)
    entry = {"name": "finedeep", "version": 1, "sublayers": 1, "experts": 4}
    for change in ({"router": "x"}, {"bias": 1}, {"scale": 0}, {"sublayers": 0}, {"layers": [1, 0]}):
        with pytest.raises(ConfigError, match="finedeep: "):
            read_settings({**entry, **change}, config())
    for options in ({"ramp": "-1"}, {"ram": "1"}):
        with pytest.raises(UserError, match=r"finedeep\.ram"):
            term(config(), entry, options)
