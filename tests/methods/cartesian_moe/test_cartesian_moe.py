"""CartesianMoE: the part is its definition, planted mistakes are found, the start is the dense model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.upcycle import convert_cartesian
from llmtool.core.model import experts
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.generate import generate
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED, Batch
from llmtool.methods.cartesian_moe import reference
from llmtool.methods.cartesian_moe.objective import histogram, term
from llmtool.methods.cartesian_moe.part import CartesianFFN, Settings, read_settings
from llmtool.model import load_model
from tests.methods.dsmoe.models import RAW, save_dense
from tests.methods.upcycled import GRANITE, IDS, QUIET, carry, config, edit_entry, logits, normed, randomised, stream


def made(top_k: int = 2, experts: int = 4, base: Config | None = None, **changes: Any) -> CartesianFFN:
    part = CartesianFFN(base or config(), 0, Settings((0,), experts, top_k, **changes))
    assert isinstance(randomised(part), CartesianFFN)
    return part


def sub_of(part: Any) -> reference.SubLayer:
    stacks = (part.experts.gate.detach(), part.experts.up.detach(), part.experts.down.detach())
    if not part.settings.shared:
        return reference.SubLayer(part.router.weight.detach(), stacks)
    shared = tuple(getattr(part.shared, f"{kind}_proj").weight.detach() for kind in ("gate", "up", "down"))
    return reference.SubLayer(
        part.router.weight.detach(), stacks, shared, part.coefficient.weight.detach(), part.coefficient.bias.detach()
    )


NORM = torch.linspace(0.5, 1.5, 32, dtype=torch.float64)


@torch.no_grad()
def difference(part: CartesianFFN, k: int, normalise: bool, h: torch.Tensor, m: float = 1.0) -> float:
    """Relative, between the stream behind the part and behind the definition."""
    found = h + m * part(normed(h, NORM, 1e-5), h, carry())
    wanted = reference.forward(
        sub_of(part.a), sub_of(part.b), NORM, part.norm.weight.detach(), 1e-5, h.flatten(0, 1), k, normalise, m
    )
    return float((found.flatten(0, 1) - wanted).norm() / (wanted - h.flatten(0, 1)).norm())


@pytest.mark.parametrize(
    ("top_k", "normalise", "shared"), [(2, True, True), (1, False, True), (1, True, False), (4, True, True)]
)
@pytest.mark.parametrize("shape", [(2, 7), (1, 1)])
def test_it_is_the_definition(top_k: int, normalise: bool, shared: bool, shape: tuple[int, int]) -> None:
    part = made(top_k, normalise=normalise, shared=shared)
    assert difference(part, top_k, normalise, stream(*shape)) < 1e-6  # RMSNorm is in float32 in the decoder
    with torch.no_grad():
        part.b.router.weight[0] += 100 * stream(1)[0]  # nearly every token to one expert, others see nothing
    assert difference(part, top_k, normalise, stream(*shape)) < 1e-6


def test_the_second_sublayer_reads_what_granite_adds() -> None:
    part, h = made(base=config(**GRANITE)), stream(2, 7)
    assert difference(part, 2, True, h, 0.22) < 1e-6
    part.residual_scale = 1.0
    assert difference(part, 2, True, h, 0.22) > 1e-2


def one_norm(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part.norm, "weight", torch.nn.Parameter(NORM))


def not_renormalised(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(experts, "share_out", lambda weights: weights)


def top_k_before_softmax(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(experts, "best", lambda scores, k, skip=0: (scores.topk(k).values.exp(), scores.topk(k).indices))


def b_reads_the_old_stream(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    def forward(x: torch.Tensor, h: torch.Tensor, state: Carry) -> torch.Tensor:
        return part.a(x, h, state) + part.b(part.norm(h), h, state)  # type: ignore[no-any-return]

    patch.setattr(part, "forward", forward)


def shared_twice(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part.b, "shared", part.a.shared)


def shares_exchanged(part: CartesianFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part.a.coefficient, "bias", torch.nn.Parameter(part.a.coefficient.bias.detach().flip(0)))
    patch.setattr(part.a.coefficient, "weight", torch.nn.Parameter(part.a.coefficient.weight.detach().flip(0)))


@pytest.mark.parametrize(
    "mutation",
    [one_norm, not_renormalised, top_k_before_softmax, b_reads_the_old_stream, shared_twice, shares_exchanged],
)
def test_planted_mistakes_are_found(
    mutation: Callable[[CartesianFFN, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, right = made(), made()
    h = stream(2, 7)
    mutation(part, monkeypatch)
    found = part(normed(h, NORM, 1e-5), h, carry())
    monkeypatch.undo()
    wanted = right(normed(h, NORM, 1e-5), h, carry())
    assert difference(right, 2, True, h) < 1e-6
    assert float((found - wanted).norm() / wanted.norm()) > 1e-3


def test_all_experts_are_the_soft_mixture() -> None:
    part = made(4, shared=False)
    x = stream(3, 5)
    p = (x @ part.a.router.weight.T).softmax(-1)
    flat, one = x.flatten(0, 1), torch.ones(15, 1)
    each = [
        experts.dispatch(flat, experts.Choice(p, torch.full((15, 1), e), one), part.a.experts.stacks).view(x.shape)
        for e in range(4)
    ]
    wanted = torch.stack([p[..., e, None] * y for e, y in enumerate(each)]).sum(0)
    assert torch.allclose(part.a(x, x, carry()), wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_start_is_the_dense_model(tmp_path: Path, dtype: torch.dtype) -> None:
    dense = save_dense(tmp_path / "m", dtype=dtype)
    plan = convert_cartesian(dense, tmp_path / "c", experts=4, layers="0-2", console=QUIET)
    assert plan["verified"]["layers"] == 3
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 6e-2}[dtype]
    found, wanted = logits(tmp_path / "c"), logits(dense)
    assert float((found - wanted).norm() / wanted.norm()) < tolerance
    skipped = logits(tmp_path / "c", settings={"cartesian_moe": {"skip": "1"}})  # copies: the others do as well
    assert float((skipped - wanted).norm() / wanted.norm()) < tolerance


def test_sizes_are_those_of_the_formula(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    plan = convert_cartesian(dense, tmp_path / "c", experts=4, dry_run=True, console=QUIET)
    assert plan["layers"] == [1]
    d, inner, n, k = 32, 80, 4, 2
    whole = 2 * ((n + 1) * 3 * d * inner // 2 + n * d + 2 * d + 2) + d
    active = 2 * ((k + 1) * 3 * d * inner // 2 + n * d + 2 * d + 2) + d
    assert plan["after"]["parameters"] - plan["before"]["parameters"] == whole - 3 * d * inner
    assert plan["after"]["active"] - plan["before"]["active"] == active - 3 * d * inner
    assert not (tmp_path / "c").exists()


def test_noise_and_bad_input(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    convert_cartesian(dense, tmp_path / "n", experts=2, noise=0.1, console=QUIET)
    mlp: Any = load_model(tmp_path / "n").decoder.model.layers[1].mlp
    assert not mlp.a.experts.gate[0].equal(mlp.a.experts.gate[1])
    for settings, message in (({"top_k": 5, "experts": 4}, "top-k 5"), ({"layers": "9"}, "layers of this model")):
        with pytest.raises(UserError, match=message):
            convert_cartesian(dense, tmp_path / "x", console=QUIET, **settings)
    with pytest.raises(UserError, match="layer 1 is no dense"):
        convert_cartesian(tmp_path / "n", tmp_path / "x", console=QUIET)
    for entry in (
        {"experts": 0},
        {"top_k": 9},
        {"layers": [5]},
        {"grain": 3},
        {"shared": 1},
        {"depth": 2},
        {"version": 2},
    ):
        raw = {"name": "cartesian_moe", "version": 1, "experts": 4, **entry}
        with pytest.raises(ConfigError, match="cartesian_moe: "):
            read_settings(raw, config())
    with pytest.raises(ConfigError, match="no biases"):
        read_settings({"name": "cartesian_moe", "version": 1, "experts": 4}, config(mlp_bias=True))
    edit_entry(tmp_path / "n", lambda entry: entry.update(experts=3))
    with pytest.raises(UserError, match=r"mlp\.a"):
        load_model(tmp_path / "n")


def test_the_objective_sees_both_routers_and_the_pairs(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    convert_cartesian(dense, tmp_path / "c", experts=4, layers="0-2", noise=0.5, console=QUIET)
    decoder = load_model(tmp_path / "c").decoder
    labels = IDS.clone()
    labels[:, 30:] = IGNORED
    _, state = decoder.hidden(IDS)
    figures: dict[str, torch.Tensor] = {}
    made_term = term(decoder.config, decoder.config.methods[0], {"coefficient": "0.5"})
    loss = made_term.add(torch.tensor(0.0), figures, state, Batch(IDS, labels))
    assert float(loss) == pytest.approx(0.5 * float(figures["cartesian_moe.balance"]))
    assert figures["cartesian_moe.fullest"].shape == (6,)
    counts = histogram(state, 1, labels != IGNORED, 4)
    assert int(counts.sum()) == int((labels != IGNORED).sum()) == 60
    first = state.shared["experts.chosen.1.a"][..., 0][labels != IGNORED]
    assert counts.sum(1).long().equal(torch.bincount(first, minlength=4))
    assert float(figures["cartesian_moe.pairs"][1]) == pytest.approx(float((counts > 0).float().mean()))


def test_it_decodes_with_a_cache_and_exports(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    convert_cartesian(dense, tmp_path / "c", experts=4, layers="0-2", console=QUIET)
    steps = [list(generate(load_model(p).decoder, IDS.tolist(), max_new_tokens=5)) for p in (dense, tmp_path / "c")]
    assert steps[0] == steps[1]
    export_model(tmp_path / "c", tmp_path / "e", console=QUIET)
    assert "two routed sub-layers" in (tmp_path / "e" / "README.md").read_text()
    assert RAW["num_hidden_layers"] == 3
