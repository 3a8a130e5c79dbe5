"""The penalty, the controller, the figures."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.model.config import parse_config
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED, Batch, Objective
from llmtool.methods.dsmoe import objective, reference
from llmtool.methods.dsmoe.objective import Sparsity
from llmtool.methods.dsmoe.part import GATES
from tests.methods.dsmoe.models import RAW, build, carry

ENTRY = {"name": "dsmoe", "version": 1, "experts": 8, "layers": [0, 2], "gate_scale": [1.0, 1.0], "tau": 0.5}


def batch(rows: int = 2, length: int = 5, ignored: int = 0) -> Batch:
    ids = torch.randint(0, 300, (rows, length), generator=torch.Generator().manual_seed(1))
    labels = ids.roll(-1, 1)
    labels[:, length - ignored :] = IGNORED
    return Batch(ids, labels)


@pytest.mark.parametrize("ignored", [0, 2])
def test_penalty_is_the_mean_over_tokens_with_a_target(ignored: int) -> None:
    generator = torch.Generator().manual_seed(2)
    g = torch.rand(2, 2, 5, 8, generator=generator, dtype=torch.float64)
    given, state = batch(ignored=ignored), carry()
    for place, layer in enumerate((0, 2)):
        state.shared[f"{GATES}{layer}"] = torch.where(g[place] > 0.5, g[place], 0.0)
    figures: dict[str, torch.Tensor] = {}
    loss = Sparsity((0, 2), 3.0).add(torch.tensor(1.0, dtype=torch.float64), figures, state, given)
    expected = reference.penalty(g[:, :, : 5 - ignored].flatten(1, 2).tolist(), 0.5)
    assert abs(float(loss.detach()) - 1 - 3 * expected) < 1e-6
    on = g[:, :, : 5 - ignored] > 0.5
    assert torch.allclose(figures["dsmoe.active"], on.float().mean((1, 2, 3)))
    assert torch.allclose(figures["dsmoe.none"], (~on.any(-1)).float().mean((1, 2)))


def test_penalty_reaches_open_gates_only() -> None:
    config = parse_config({**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [ENTRY]}})
    torch.manual_seed(3)
    decoder = build(config).train()
    ids = torch.randint(0, 300, (1, 6))
    h, state = decoder.hidden(ids)
    assert sorted(key for key in state.shared if key.startswith(GATES)) == [f"{GATES}0", f"{GATES}2"]
    gates = state.shared[f"{GATES}2"]
    (gradient,) = torch.autograd.grad(Sparsity((0, 2)).add(h.sum() * 0, {}, state, batch(1, 6)), gates)
    open_ = gates > 0
    assert 0 < int(open_.sum()) < open_.numel()
    mlp: Any = decoder.model.layers[2].mlp
    logit_gradient = torch.autograd.grad(
        Sparsity((0, 2)).add(h.sum() * 0, {}, decoder.hidden(ids)[1], batch(1, 6)), mlp.router.bias
    )[0]
    assert float(gradient.max() - gradient.min()) == 0
    never = ~open_.any(1)[0]
    assert (logit_gradient[never] == 0).all()
    assert (logit_gradient[~never] != 0).all()


def test_an_objective_trains_a_decoder() -> None:
    config = parse_config({**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [ENTRY]}})
    torch.manual_seed(3)
    decoder = build(config).train()
    term = objective.term(config, ENTRY, {})
    loss, figures = Objective({"dsmoe": term}).loss(decoder, batch())
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) > float(figures["loss"])
    routers = [p.grad for name, p in decoder.named_parameters() if "router" in name]
    assert len(routers) == 4
    assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in routers)


def test_controller_moves_toward_the_target_and_resumes() -> None:
    config = parse_config({**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [ENTRY]}})
    term = objective.term(config, ENTRY, {"target-share": "0.375", "coefficient": "1"})
    assert isinstance(term, Sparsity)
    term.after_step({"dsmoe.active": [0.5, 0.5]})
    assert term.coefficient == pytest.approx(1.2)
    term.after_step({"dsmoe.active": torch.tensor([0.1, 0.3])})
    term.after_step({"dsmoe.active": [0.2, 0.2]})
    assert term.coefficient == pytest.approx(1 / 1.2)
    again = Sparsity((0, 2), 1.0, 0.375)
    again.restore(term.state())
    assert again.coefficient == term.coefficient
    for _ in range(300):
        term.after_step({"dsmoe.active": [1.0]})
    assert term.coefficient == 1e4
    fixed = Sparsity((0, 2))
    fixed.after_step({"dsmoe.active": [1.0]})
    assert fixed.coefficient == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "0.3"}, "did you mean 'target-share'"), ({"target-share": "0"}, "wanted 1e-06 to 1"),
        ({"target-share": "x"}, "target-share x: not a number"), ({"rate": "1"}, "wanted 1 to 10"),
        ({"coefficient": "-1"}, "wanted 0 to 1e.06"), ({"coefficient": "nan"}, "not a number"),
        ({"rate": "9" * 5000}, "not a number"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        objective.term(parse_config(RAW), {**ENTRY}, options)


def test_the_share_that_was_reached_is_told_beside_the_one_that_was_wanted() -> None:
    figures = {"dsmoe.active": [0.9, 1.0]}
    assert Sparsity((0, 2)).at_end(figures) is None
    line, reached = Sparsity((0, 2), 0.01, 0.5).at_end(figures) or ("", None)
    assert line.startswith("dsmoe: 95.0% of the blocks are on, 50.0% were wanted (target-share): not reached")
    assert reached is False
    line, reached = Sparsity((0, 2), 0.01, 0.94).at_end(figures) or ("", None)
    assert (line, reached) == ("dsmoe: 95.0% of the blocks are on, 94.0% were wanted (target-share)", True)
