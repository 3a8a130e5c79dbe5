"""MaskMoE: the part is its definition at every width of the mask, the table is right, the start is the dense model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer, train
from llmtool.commands.convert.copy import copy_checkpoint
from llmtool.commands.convert.inspect import describe
from llmtool.commands.convert.upcycle import convert_mask
from llmtool.commands.token_experts import token_experts
from llmtool.core.bpe.definition import Beside
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model import experts_reference as plain
from llmtool.core.model.config import ConfigError
from llmtool.core.model.generate import generate
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.train.objective import IGNORED, Batch
from llmtool.methods.mask_moe import part as parts
from llmtool.methods.mask_moe import reference, table
from llmtool.methods.mask_moe.artefact import load_table, write_table
from llmtool.methods.mask_moe.objective import term
from llmtool.methods.mask_moe.part import MaskFFN, Settings, read_settings
from llmtool.model import load_model
from tests.methods.dsmoe.models import library, save_dense, tokenizer
from tests.methods.upcycled import IDS, QUIET, carry, config, logits, randomised, stream

EXPERTS = 10
"""More than a byte of them."""


def made(top_k: int, visible: int | None, normalise: bool = True) -> tuple[MaskFFN, np.ndarray[Any, Any]]:
    """A part, and who sees what: `visible` experts each, or from 1 to all by id."""
    part = MaskFFN(config(), 0, Settings((0,), EXPERTS, top_k, normalise))
    counts = np.ones(300, dtype=np.int64)
    seen = np.full(300, visible) if visible else np.arange(300) % EXPERTS + 1
    shown = table.draw(seen, counts, table.Rule(EXPERTS), 0)
    randomised(part)
    part.mask.copy_(torch.from_numpy(table.pack(shown)))
    return part, shown


@torch.no_grad()
def difference(part: MaskFFN, shown: Any, x: torch.Tensor, ids: torch.Tensor) -> float:
    stacks = [stack.detach() for stack in part.experts.stacks]
    own = part.settings
    wanted = reference.forward(
        x.flatten(0, 1), ids.flatten().tolist(), shown.tolist(), part.router.weight.detach(), stacks, own.top_k,
        own.normalise,
    )  # fmt: skip
    return float((part(x, x, carry(ids)).flatten(0, 1) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("top_k", "visible"), [(1, 1), (1, None), (2, None), (3, 2), (EXPERTS, None), (2, EXPERTS)])
def test_it_is_the_definition(top_k: int, visible: int | None, normalise: bool) -> None:
    part, shown = made(top_k, visible, normalise)
    ids = IDS[:, :11]
    assert difference(part, shown, stream(2, 11), ids) < 1e-12
    assert difference(part, shown, stream(1, 1), ids[:1, :1]) < 1e-12
    assert difference(part, shown, 300 * stream(2, 11), ids) < 1e-9  # probabilities of 0 among the visible


def test_all_visible_is_plain_routing_and_one_is_a_hash_layer() -> None:
    x, ids = stream(2, 9), IDS[:, :9]
    part, _ = made(2, EXPERTS)
    stacks = [stack.detach() for stack in part.experts.stacks]
    wanted = plain.top_k(x.flatten(0, 1), part.router.weight.detach(), stacks, 2)
    assert torch.allclose(part(x, x, carry(ids)).flatten(0, 1), wanted, atol=1e-11)
    part, shown = made(2, 1)
    wanted = torch.stack([plain.expert(stacks, int(shown[i].argmax()), token)
                          for token, i in zip(x.flatten(0, 1), ids.flatten(), strict=True)])  # fmt: skip
    part.experts.load_state_dict(dict(zip(("gate", "up", "down"), stacks, strict=True)))
    assert torch.allclose(part(x, x, carry(ids)).flatten(0, 1), wanted, atol=1e-11)


def ignores_the_mask(part: MaskFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parts, "unpack", lambda rows, experts: torch.ones(*rows.shape[:-1], experts, dtype=torch.bool))


def takes_k_whatever_is_visible(part: MaskFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parts, "share_out", lambda w: torch.full_like(w, 1 / w.shape[-1]))


def reads_bits_from_the_other_end(part: MaskFFN, patch: pytest.MonkeyPatch) -> None:
    right = parts.unpack
    patch.setattr(parts, "unpack", lambda rows, experts: right(rows, experts).flip(-1))


def takes_the_next_tokens_id(part: MaskFFN, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(part, "mask", part.mask.roll(1, 0))


@pytest.mark.parametrize(
    "mutation",
    [ignores_the_mask, takes_k_whatever_is_visible, reads_bits_from_the_other_end, takes_the_next_tokens_id],
)
def test_planted_mistakes_are_found(
    mutation: Callable[[MaskFFN, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, shown = made(2, None)
    assert difference(part, shown, stream(2, 11), IDS[:, :11]) < 1e-12
    mutation(part, monkeypatch)
    assert difference(part, shown, stream(2, 11), IDS[:, :11]) > 1e-3


def test_gradients_of_the_router() -> None:
    """One visible: nothing to choose, no gradient. Several, top-1: the weight is 1, and the gradient that of log p."""
    x, ids = stream(1, 6), IDS[:1, :6]
    part, _ = made(1, 1)
    part(x, x, carry(ids)).sum().backward()
    assert part.router.weight.grad is not None
    assert float(part.router.weight.grad.abs().max()) < 1e-12
    part, _ = made(1, 5)
    part(x, x, carry(ids)).sum().backward()
    assert part.router.weight.grad is not None
    assert float(part.router.weight.grad.abs().max()) > 1e-3


@pytest.mark.parametrize("top_k", [1, 2])
def test_without_the_best_the_weights_still_sum_to_one(top_k: int) -> None:
    part, shown = made(top_k, 4)
    part.settings = replace(part.settings, skip=2)
    x, ids = stream(2, 11).flatten(0, 1), IDS[:, :11].flatten()
    for size in (1, 1e4):  # at 1e4 every probability but the best is 0, also in float64
        choice = part.route(size * x, ids)
        assert choice.kept is not None
        assert torch.allclose(choice.weights.sum(-1), torch.ones(22, dtype=torch.float64))
        logits = (size * x @ part.router.weight.T).masked_fill(~torch.as_tensor(shown)[ids], -torch.inf)
        for row, taken, kept, weights in zip(logits, choice.chosen, choice.kept, choice.weights, strict=True):
            wanted = row.sort(descending=True).indices[2 : 2 + top_k]
            assert taken[kept].equal(wanted)
            assert torch.allclose(weights[kept], row[wanted].softmax(-1))


def test_ids_are_wanted_and_have_the_shape_of_the_batch() -> None:
    part, _ = made(1, 2)
    x = stream(2, 3)
    with pytest.raises(ValueError, match="routes by token ids"):
        part(x, x, carry())
    with pytest.raises(ValueError, match="every token needs one"):
        part(x, x, carry(IDS[:, :1]))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 60),
    st.integers(0, 5),
    st.sampled_from(table.RULES),
    st.sampled_from(table.DRAWS),
)
def test_every_table_is_sound(experts: int, vocabulary: int, seed: int, kind: str, draw: str) -> None:
    random = np.random.default_rng(seed)
    counts = (random.zipf(1.3, vocabulary) % 10_000) * (random.random(vocabulary) > 0.3)
    counts = counts.astype(np.int64)
    rule = table.Rule(experts, min(2, experts), kind, draw=draw, seed=seed, least=50)
    structure = np.array([0])
    masks = table.make_table(counts, 3, rule, structure)
    table.check_table(masks, experts)
    shown, seen = table.unpack(masks, experts), table.numbers_visible(counts, rule, structure)
    assert (shown.sum(-1) == seen).all()
    assert masks.tobytes() == table.make_table(counts, 3, rule, structure).tobytes()
    assert torch.equal(parts.unpack(torch.from_numpy(masks), experts), torch.from_numpy(shown))


def test_layers_differ_frequent_ids_are_the_frequent_ones_and_balanced_is_balanced() -> None:
    counts = np.array([1000, 500, 300, 100, 50, 30, 10, 5, 4, 1] + [0] * 90, dtype=np.int64)
    rule = table.Rule(8, mass=0.9)
    seen = table.numbers_visible(counts, rule, np.zeros(0, dtype=np.int64))
    assert seen[:4].tolist() == [4, 4, 4, 1]  # 1000 and 500 are 75% of 2000, with 300 it is 90%
    graded = table.numbers_visible(counts, table.Rule(8, kind="min-per-expert", least=100), np.zeros(0, dtype=np.int64))
    assert graded[:6].tolist() == [4, 4, 3, 1, 1, 1]
    first, second = (table.draw(seen, counts, rule, layer) for layer in (0, 1))
    assert (first != second).any()
    heavy = np.random.default_rng(0).zipf(1.5, 400).astype(np.int64)
    worst = {}
    for draw in table.DRAWS:
        one = table.make_table(heavy, 1, table.Rule(8, kind="one", draw=draw), np.zeros(0, dtype=np.int64))
        worst[draw] = table.report(one, heavy, table.Rule(8, kind="one", draw=draw), np.zeros(0, dtype=np.int64))
    spread = {draw: facts["layers"][0]["max_over_mean"] for draw, facts in worst.items()}
    assert spread["balanced"] <= spread["uniform"]


def test_the_coin_ignores_frequency_and_the_report_counts() -> None:
    counts = np.arange(1, 201, dtype=np.int64)
    none = np.zeros(0, dtype=np.int64)
    by_mass, by_coin = (
        table.numbers_visible(counts, table.Rule(4, kind=kind), none) for kind in ("frequent-mass", "coin")
    )
    assert (by_mass == 2).sum() == (by_coin == 2).sum()
    assert abs(np.corrcoef(by_coin, counts)[0, 1]) < 0.2 < np.corrcoef(by_mass, counts)[0, 1]
    rule = table.Rule(4, top_k=2)
    facts = table.report(table.make_table(counts, 2, rule, none), counts, rule, none)
    wanted = (counts * np.minimum(2, by_mass)).sum() / counts.sum()
    assert facts["mean_active_experts"] == pytest.approx(wanted)
    assert sum(row["ids"] for row in facts["classes"]) == 200


def test_tid2eid_and_rows_for_another_vocabulary() -> None:
    masks = table.make_table(np.ones(20, dtype=np.int64), 2, table.Rule(6, 2, "top-k"), np.zeros(0, dtype=np.int64))
    found = table.tid2eid(masks, 6, 2)
    shown = table.unpack(masks, 6)
    assert found.shape == (2, 20, 2)
    assert all(shown[layer, i, e] for layer in range(2) for i in range(20) for e in found[layer, i])
    with pytest.raises(UserError, match="not every id sees exactly 3"):
        table.tid2eid(masks, 6, 3)
    assert (table.carry_rows(masks, np.array([3, 3, 19])) == masks[:, [3, 3, 19]]).all()
    with pytest.raises(UserError, match="outside"):
        table.carry_rows(masks, np.array([20]))


def rewrite(path: Path, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    with path.open("wb") as file:
        write_table(file, arrays, facts)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_dense(tmp_path_factory.mktemp("mask") / "m")
    tokenizer(path)
    return path


def make(dense: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return token_experts(library(2), output, console=QUIET, model=str(dense), **{"experts": 4, **changes})


@pytest.mark.parametrize(("rule", "top_k"), [("one", 1), ("frequent-mass", 1), ("frequent-mass", 2)])
def test_the_start_is_the_dense_model(dense: Path, tmp_path: Path, rule: str, top_k: int) -> None:
    facts = make(dense, tmp_path / "t", rule=rule, top_k=top_k)
    assert facts["tokens"] > 1000
    plan = convert_mask(dense, tmp_path / "c", tmp_path / "t", top_k=top_k, console=QUIET)
    found, wanted = logits(tmp_path / "c"), logits(dense)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5
    ratio = plan["after"]["flops"] / plan["before"]["flops"]
    assert ratio < 1.05 if top_k == 1 else ratio > 1.3
    assert describe(open_checkpoint(tmp_path / "c"))["flops_per_token"] == plan["after"]["flops"]
    made_part: Any = load_model(tmp_path / "c", dtype="bf16").decoder.model.layers[1].mlp
    assert made_part.mask.dtype == torch.uint8
    assert made_part.mask.numpy().tobytes() == load_table(tmp_path / "t").padded(300)[1].tobytes()
    steps = [list(generate(load_model(p).decoder, IDS.tolist(), max_new_tokens=5)) for p in (dense, tmp_path / "c")]
    assert steps[0] == steps[1]


def test_special_tokens_that_never_occur_see_every_expert_where_they_have_a_role(tmp_path: Path) -> None:
    special = ["<|endoftext|>", "<pad>", "<|unused|>"]
    own = Tokenizer.train(library(1), vocab_size=290, special=special)
    own.save(tmp_path / "own.json")
    with_role = replace(own.definition, beside=Beside({"pad_token": "<|unused|>"}))
    Tokenizer(with_role).save(tmp_path / "read.json")
    for name, pad in (("own", "<pad>"), ("read", "<|unused|>")):
        facts = token_experts(
            library(1), tmp_path / f"{name}.safetensors", tokenizer=str(tmp_path / f"{name}.json"), layers=1, experts=4,
            console=QUIET,
        )  # fmt: skip
        wanted = {own.special_tokens[text] for text in (own.definition.eos, own.definition.bos, pad) if text}
        assert set(facts["structure"]) == wanted
        assert own.special_tokens[pad] in wanted
        seen = table.unpack(load_table(tmp_path / f"{name}.safetensors").masks, 4)[0].sum(-1)
        assert {int(i) for i in np.flatnonzero(seen == 4)} == wanted


def test_a_shared_expert_starts_as_nothing(dense: Path, tmp_path: Path) -> None:
    make(dense, tmp_path / "t")
    plan = convert_mask(dense, tmp_path / "s", tmp_path / "t", shared=True, console=QUIET)
    assert plan["verified"]["relative_error"] < 1e-5
    model = load_model(tmp_path / "s")
    assert float((model(IDS) - logits(dense)).norm() / logits(dense).norm()) < 1e-5
    model.decoder.train()(IDS).square().mean().backward()
    mlp: Any = model.decoder.model.layers[1].mlp
    assert float(mlp.shared.down_proj.weight.grad.abs().max()) > 0


def test_a_copy_in_another_type_keeps_the_table(dense: Path, tmp_path: Path) -> None:
    make(dense, tmp_path / "t")
    convert_mask(dense, tmp_path / "c", tmp_path / "t", console=QUIET)
    copy_checkpoint(tmp_path / "c", tmp_path / "half", dtype="bf16", max_shard_size=10**9, console=QUIET)
    one, other = (load_model(tmp_path / name) for name in ("c", "half"))
    name = "model.layers.0.mlp.mask"
    assert one.decoder.state_dict()[name].equal(other.decoder.state_dict()[name])
    assert other.decoder.lm_head.weight.dtype == torch.bfloat16


def test_the_artefact_is_checked(dense: Path, tmp_path: Path) -> None:
    make(dense, tmp_path / "t", experts=12, rule="top-k", top_k=2, tid2eid=True)
    held = load_table(tmp_path / "t")
    assert held.facts["rule"]["kind"] == "top-k"
    from safetensors.numpy import load_file

    assert load_file(tmp_path / "t")["tid2eid"].shape == (3, 300, 2)
    masks = held.masks.copy()
    masks[1, 7] = 0
    facts = {key: value for key, value in held.facts.items() if key != "schema"}
    rewrite(tmp_path / "broken", {"masks": masks, "counts": held.counts}, facts)
    with pytest.raises(UserError, match="id 7 sees no expert in layer 1"):
        convert_mask(dense, tmp_path / "c", tmp_path / "broken", console=QUIET)
    masks[1, 7, 1] = 1 << 5
    rewrite(tmp_path / "broken", {"masks": masks, "counts": held.counts}, facts)
    with pytest.raises(UserError, match="beyond the 12"):
        load_table(tmp_path / "broken")
    rewrite(tmp_path / "short", {"masks": held.masks[:1], "counts": held.counts}, facts)
    with pytest.raises(UserError, match="a table for 1 layer and"):
        convert_mask(dense, tmp_path / "c", tmp_path / "short", console=QUIET)
    (tmp_path / "none").write_bytes(b"no")
    with pytest.raises(UserError):
        load_table(tmp_path / "none")
    with pytest.raises(CompleteError):
        make(dense, tmp_path / "t", experts=12, rule="top-k", top_k=2, tid2eid=True)
    with pytest.raises(UserError, match="top-k 9"):
        make(dense, tmp_path / "x", top_k=9)


def test_a_table_of_another_tokenizer_or_model_is_refused(dense: Path, tmp_path: Path) -> None:
    other = Tokenizer.train(library(1), vocab_size=290)
    other.save(tmp_path / "other.json")
    token_experts(
        library(2), tmp_path / "t", tokenizer=str(tmp_path / "other.json"), layers=3, experts=4, console=QUIET
    )
    with pytest.raises(UserError, match="another tokenizer"):
        convert_mask(dense, tmp_path / "c", tmp_path / "t", console=QUIET)
    assert not (tmp_path / "c").exists()
    for layers in (2, 4):
        with pytest.raises(UserError, match=f"--layers {layers}: .* has 3"):
            make(dense, tmp_path / "u", layers=layers)
        token_experts(
            library(2), tmp_path / f"t{layers}", tokenizer=str(dense), layers=layers, experts=4, console=QUIET
        )
        with pytest.raises(UserError, match=f"a table for {layers} layers and"):
            convert_mask(dense, tmp_path / "c", tmp_path / f"t{layers}", console=QUIET)
    make(dense, tmp_path / "u", layers=3)


def test_new_weights_begin_with_a_table(dense: Path, tmp_path: Path) -> None:
    """--set mask_moe.table, before the first step and never again; what is written holds it."""
    make(dense, tmp_path / "t")
    raw = json.loads((dense / "config.json").read_text())
    entry = {"name": "mask_moe", "version": 1, "layers": [0, 2], "experts": 4}
    raw |= {"model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}}
    (tmp_path / "new.json").write_text(json.dumps(raw))
    train(library(1), tmp_path / "run", model=str(tmp_path / "new.json"), tokenizer=str(dense), length=16, batch=32,
          tokens=64, set=[f"mask_moe.table={tmp_path / 't'}"], threads=1)  # fmt: skip
    inputs = {
        entry["path"]: entry["sha256"] for entry in json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    }
    assert len(inputs[str(tmp_path / "t")]) == 64
    held = load_table(tmp_path / "t").padded(300)
    decoder: Any = load_model(tmp_path / "run").decoder
    for layer in (0, 2):
        assert decoder.model.layers[layer].mlp.mask.numpy().tobytes() == held[layer].tobytes()
    made_config = decoder.config
    told = term(made_config, made_config.methods[0], {"table": str(tmp_path / "t"), "coefficient": "0.5"})
    decoder.model.layers[0].mlp.mask.fill_(15)
    told.before_step(decoder, 1, 2)
    assert int(decoder.model.layers[0].mlp.mask.min()) == 15  # a run that is resumed keeps what it has
    told.before_step(decoder, 0, 2)
    assert decoder.model.layers[0].mlp.mask.numpy().tobytes() == held[0].tobytes()
    make(dense, tmp_path / "five", experts=5)
    with pytest.raises(UserError, match="a table for 5 experts, the model has 4"):
        term(made_config, made_config.methods[0], {"table": str(tmp_path / "five")})
    with pytest.raises(UserError, match=r"mask_moe\.tabel is not known"):
        term(made_config, made_config.methods[0], {"tabel": "x"})


def test_the_balance_is_over_tokens_with_a_choice(dense: Path, tmp_path: Path) -> None:
    make(dense, tmp_path / "t", top_k=2)
    convert_mask(dense, tmp_path / "c", tmp_path / "t", top_k=2, console=QUIET)
    decoder = load_model(tmp_path / "c").decoder
    labels = IDS.clone()
    labels[:, 30:] = IGNORED
    _, state = decoder.hidden(IDS)
    seen = torch.from_numpy(table.unpack(load_table(tmp_path / "t").masks, 4).sum(-1))[0][IDS]
    assert state.shared["experts.free.0"].equal(seen > 1)
    figures: dict[str, torch.Tensor] = {}
    term(decoder.config, decoder.config.methods[0], {}).add(torch.tensor(0.0), figures, state, Batch(IDS, labels))
    wanted = seen.clamp(max=2)[labels != IGNORED].float().mean()
    assert float(figures["mask_moe.active"][0]) == pytest.approx(float(wanted))


def test_bad_settings() -> None:
    for change in ({"experts": 257}, {"top_k": 5}, {"shared": "yes"}, {"layers": [3]}, {"mask": 1}):
        with pytest.raises(ConfigError, match="mask_moe: "):
            read_settings({"name": "mask_moe", "version": 1, "experts": 4, **change}, config())
