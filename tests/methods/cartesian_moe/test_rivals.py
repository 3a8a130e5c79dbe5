"""CartesianMoE's rivals: each part is its definition, at equal parameters, and trains from a config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import nn

from llmtool.commands.train.command import train
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.model.config import Config, ConfigError, parse_config
from llmtool.core.model.cost import cost_of
from llmtool.core.model.experts import CHOSEN, SCORES, Choice, Experts
from llmtool.core.model.experts_reference import softmax
from llmtool.core.model.ffn import SwiGLU
from llmtool.core.model.new import initialise
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run
from llmtool.methods.cartesian_moe.baselines import reference, rivals_part
from llmtool.methods.cartesian_moe.baselines.rivals_part import (
    KINDS,
    DeepShare,
    Rival,
    Settings,
    SharedExperts,
    read_settings,
)
from llmtool.methods.cartesian_moe.part import CartesianFFN
from llmtool.methods.cartesian_moe.part import Settings as CartesianSettings
from llmtool.model import build, load_model
from tests.methods.dsmoe.models import RAW
from tests.methods.upcycled import GRANITE, IDS, carry, config, normed, randomised, stream

NORM = torch.linspace(0.5, 1.5, 32, dtype=torch.float64)
EPS = 1e-5


def made(kind: str, experts: int = 4, base: Config | None = None, **changes: Any) -> nn.Module:
    base, settings = base or config(), Settings((0,), kind, experts, **changes)
    part = DeepShare(base, 0, settings) if kind == "deep" else Rival(base, 0, settings)
    return randomised(part)


def stacks(experts: Experts) -> reference.Stacks:
    return experts.gate.detach(), experts.up.detach(), experts.down.detach()


def dense(shared: SharedExperts) -> list[reference.Stacks]:
    found = []
    for part in shared.dense:
        assert isinstance(part, SwiGLU)
        found.append((part.gate_proj.weight.detach(), part.up_proj.weight.detach(), part.down_proj.weight.detach()))
    return found


def coefficients(shared: SharedExperts) -> tuple[torch.Tensor, torch.Tensor]:
    return shared.coefficient.weight.detach(), shared.coefficient.bias.detach()


def literal(
    part: Any, h: torch.Tensor, x: torch.Tensor, ids: torch.Tensor, k: int, mass: float, m: float = 1.0
) -> torch.Tensor:
    """The reference, token by token: h, x [N, d], ids [N] -> [N, d]."""
    kind, rows = part.settings.kind, []
    for token, state, identity in zip(x, h, ids.tolist(), strict=True):
        if kind == "hash":
            p = part.fixed_scores(torch.tensor([identity]))[0].tolist()
        else:
            p = softmax([float(row @ token) for row in part.router.weight.detach()])
        choice = reference.choose(kind, p, k, mass)
        if kind == "deep":
            both = [coefficients(s) for s in (part.shared_a, part.shared_b)]
            rows.append(reference.deep(
                state, token, choice, stacks(part.experts_a), stacks(part.experts_b), dense(part.shared_a),
                dense(part.shared_b), both, part.norm.weight.detach(), EPS, m,
            ))  # fmt: skip
            continue
        r = reference.routed(choice, stacks(part.experts), token)
        if kind != "top3":
            r = reference.mixed(r, token, dense(part.shared), *coefficients(part.shared))
        rows.append(r)
    return torch.stack(rows)


def distance(part: Any, k: int, mass: float = rivals_part.MASS, m: float = 1.0) -> float:
    h, ids = stream(2, 7), IDS[:, :7]
    x = normed(h, NORM, EPS)
    with torch.no_grad():
        found = part(x, h, carry(ids)).flatten(0, 1)
    wanted = literal(part, h.flatten(0, 1), x.flatten(0, 1), ids.flatten(), k, mass, m)
    return float((found - wanted).norm() / wanted.norm())


ACTIVE = {"share": 2, "top3": 3, "hash": 2, "fine": 4, "topp": 4, "deep": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_its_definition(kind: str) -> None:
    part = made(kind)
    assert distance(part, ACTIVE[kind]) < 1e-6  # hash: its table is float32
    # The check has teeth: another number of experts, or another mass, is another layer.
    assert distance(part, ACTIVE[kind] - 1, 0.9) > 1e-2


def test_the_second_sublayer_reads_what_granite_adds() -> None:
    part = made("deep", base=config(**GRANITE))
    assert distance(part, 2, m=0.22) < 1e-6
    assert distance(part, 2) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_equal_parameters_in_all_and_in_a_token(kind: str) -> None:
    """17 D of width in all and 3 D in a token, as CartesianMoE at N = 16, k = 2; routers and shares apart."""
    width = config(intermediate_size=96)

    def widths(part: nn.Module) -> tuple[int, int]:
        total = active = 0
        for module in part.modules():
            if isinstance(module, Experts):
                total += module.gate.shape[0] * module.gate.shape[1]
                active += module.active * module.gate.shape[1]
            if isinstance(module, SwiGLU):
                total += module.gate_proj.out_features
                active += module.gate_proj.out_features
        return total, active

    settings = Settings((0,), kind, 16)
    part: nn.Module = DeepShare(width, 0, settings) if kind == "deep" else Rival(width, 0, settings)
    ours = CartesianFFN(width, 0, CartesianSettings((0,), 16))
    assert widths(ours) == (17 * 96, 3 * 96)
    total, active = widths(part)
    assert total == 17 * 96
    if kind == "top3":
        assert active == 3 * 17 * 96 // 16
    elif kind == "topp":
        assert active == 17 * 96  # at most; how many it takes is its own choice
    else:
        assert active == 3 * 96
    assert cost_of(part).parameters == pytest.approx(cost_of(ours).parameters, rel=0.03)


def test_a_change_of_type_moves_no_ids_experts(tmp_path: Path) -> None:
    """bf16 and back, in memory and through a checkpoint; a table of numbers, as it was written before, is read."""
    entry = {"name": "cartesian_rival", "version": 1, "kind": "hash", "experts": 16, "layers": [1]}
    raw = {**RAW, "vocab_size": 4000, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}}
    decoder = build(parse_config(raw))
    initialise(decoder, 0)
    ids = torch.arange(4000)

    def taken(model: Any) -> Choice:
        found: Choice = model.model.layers[1].mlp.choose(torch.zeros(4000, 32), ids)
        return found

    wanted = taken(decoder)
    state = {name: x for name, x in decoder.state_dict().items() if name != "lm_head.weight"}
    write_checkpoint(tmp_path / "new", state.items(), raw, run=Run("test", {}), dtype="bf16")
    for model in (decoder.to(torch.bfloat16).float(), load_model(tmp_path / "new", dtype="bf16").decoder):
        assert taken(model).chosen.equal(wanted.chosen)
        assert taken(model).weights.equal(wanted.weights)
    name = "model.layers.1.mlp.table"
    old = {**state, name: wanted.scores}
    for dtype in ("fp32", "bf16"):
        write_checkpoint(tmp_path / dtype, old.items(), raw, run=Run("test", {}), dtype=dtype)
        found = taken(load_model(tmp_path / dtype).decoder)
        assert found.chosen.equal(wanted.chosen) == (dtype == "fp32")  # what bf16 rounded stays as it was trained
        assert float((found.chosen != wanted.chosen).any(-1).float().mean()) < 0.02


def test_topp_takes_as_many_as_hold_the_mass() -> None:
    part = made("topp")
    seen = carry(IDS[:, :7])
    with torch.no_grad():
        part(stream(2, 7), stream(2, 7), seen)
    scores, chosen = seen.shared[SCORES + "0"], seen.shared[CHOSEN + "0"]
    for p, row in zip(scores.flatten(0, 1), chosen.flatten(0, 1), strict=True):
        taken = [e for e in row.tolist() if e >= 0]
        assert float(p[taken].sum()) >= rivals_part.MASS
        assert float(p[taken[:-1]].sum()) < rivals_part.MASS


def test_topp_shares_out_what_is_left_from_the_logits() -> None:
    x, router = stream(5), stream(4, seed=3)
    for size in (1, 1e4):  # at 1e4 the probabilities of all but the best are 0, so that all of the others are taken
        found = rivals_part.top_p(size * x, router, 0.4, 1)
        assert found.kept is not None
        logits = (size * x @ router.T).gather(1, found.chosen).masked_fill(~found.kept, -torch.inf)
        assert torch.allclose(found.weights, logits.softmax(-1))
        best = (x @ router.T).argmax(-1, keepdim=True)
        assert not bool((found.chosen == best).any())


def test_the_best_experts_switched_off() -> None:
    for kind in KINDS:
        before, after = carry(IDS[:, :7]), carry(IDS[:, :7])
        for skip, seen in ((0, before), (1, after)):
            with torch.no_grad():
                made(kind, experts=8, skip=skip)(stream(2, 7), stream(2, 7), seen)
        best, others = before.shared[CHOSEN + "0"][..., :1], after.shared[CHOSEN + "0"]
        assert not bool((others == best).any())


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"kind": "sparse"}, "kind 'sparse' is not one of share"), ({"experts": 3}, "whole number 4 or more"),
     ({"kind": "top3", "experts": 6}, "do not divide"), ({"top_k": 2}, "top_k is not understood"),
     ({"skip": 3}, "from 0 to 2")],
)  # fmt: skip
def test_entries_are_checked(changes: dict[str, Any], says: str) -> None:
    entry = {"name": "cartesian_rival", "version": 1, "kind": "share", "experts": 4, **changes}
    with pytest.raises(ConfigError, match=says):
        read_settings(entry, config())


@pytest.mark.parametrize("kind", ["hash", "topp", "deep"])
def test_trained_from_a_config(kind: str, tmp_path: Path) -> None:
    """From new weights; what is written loads again as it was trained, the table of `hash` with it."""
    entry = {"name": "cartesian_rival", "version": 1, "kind": kind, "experts": 4, "layers": [1]}
    (tmp_path / "model.json").write_text(
        dumps({**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}})
    )
    np.save(tmp_path / "ids.npy", np.tile(np.arange(200, dtype=np.uint16), 20))
    report = train([str(tmp_path / "ids.npy")], tmp_path / "out", model=str(tmp_path / "model.json"), steps=3,
                   length=32, batch=128, eval_every=0, save_every=0)  # fmt: skip
    assert report["step"] == 3
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row.get("loss")]
    assert losses[-1] < losses[0]
    assert "cartesian_rival" in json.dumps(rows[-1])
    model = load_model(tmp_path / "out")
    first, again = model(IDS % 300), model(IDS % 300)
    assert torch.equal(first, again)
    found = [part for part in model.decoder.modules() if isinstance(part, Rival | DeepShare)]
    assert len(found) == 1
    if kind == "hash":
        assert torch.equal(
            torch.as_tensor(found[0].table), torch.as_tensor(Rival(config(), 0, Settings((0,), "hash", 4)).table)
        )
