"""Likeness of attention maps, and the plan against every other plan."""

import itertools
import json
import math
import random
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer
from llmtool.core.run.errors import UserError
from llmtool.methods.uniattn import plan, reference
from llmtool.methods.uniattn.similarity import attention_maps, best_groups, followers_for, similarity
from tests.cli.test_app import run
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import save
from tests.methods.uniattn.models import config, decoder, draw


def test_maps_are_the_literal_ones() -> None:
    model, ids = decoder(config(groups=[], windows=(None, 5) + (None,) * 5), 0.3), draw(1)
    maps = attention_maps(model, ids[0])
    h = model.model.embed_tokens(ids)
    block = model.model.layers[0]
    x, attention = block.get_submodule("input_layernorm")(h), block.get_submodule("self_attn")
    split = (1, 20, -1, 8)
    q, k = (p(x).view(split).transpose(1, 2) for p in map(attention.get_submodule, ("q_proj", "k_proj")))
    wanted = reference.probabilities(q, k, next(iter(model.ropes.values()))(torch.arange(20)[None], h.dtype))
    assert (maps[0] - wanted[0]).abs().max() < 1e-6
    assert torch.allclose(maps.sum(-1), torch.ones(()))
    assert float(maps[1][:, 19, :15].sum()) == 0


def test_likeness_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.5, 0.5])
    maps = torch.zeros(3, 1, 2, 3)
    maps[0, 0, 1], maps[1, 0, 1], maps[2, 0, 1] = p, q, p
    assert torch.allclose(similarity(maps, "cosine"), torch.tensor([[1, 0.5, 1], [0.5, 1, 0.5], [1, 0.5, 1]]))
    js = similarity(maps, "js")
    assert float(js[0, 1]) == pytest.approx(0.5)  # half of the mass is common
    assert float(js[0, 2]) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(6))
def test_the_plan_is_the_best_of_all(seed: int) -> None:
    draw_from = random.Random(seed)
    layers = 8
    alike = [[draw_from.random() for _ in range(layers)] for _ in range(layers)]
    windows = [None if layer < 5 or seed % 2 else 7 for layer in range(layers)]
    for followers in range(1, 6):
        groups, total = best_groups(alike, followers, windows)
        assert len(plan.followers_of(groups)) == followers
        assert total == pytest.approx(sum(alike[leader][f] for f, leader in plan.followers_of(groups).items()))
        best = -math.inf
        for chosen in itertools.combinations(range(1, layers), followers):
            leaders = {f: max(x for x in range(f) if x not in chosen) for f in chosen}
            if all(windows[f] == windows[leader] for f, leader in leaders.items()):
                best = max(best, sum(alike[leader][f] for f, leader in leaders.items()))
        assert total == pytest.approx(best)


def test_savings_that_cannot_be() -> None:
    assert [followers_for(share, 32) for share in (0.1875, 0.375)] == [12, 24]
    for share in (0.0, 0.49, 25.0):
        with pytest.raises(UserError, match=r"at most 43\.8%"):
            followers_for(share, 8)
    with pytest.raises(UserError, match="different windows"):
        best_groups([[1.0] * 2] * 2, 1, [None, 4])


def test_eval_attention_writes_a_plan_that_convert_takes(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama3", 0.3, vocab_size=400, num_hidden_layers=6)
    Tokenizer.train_from_documents(SCRIPTS * 2, 400).save(source / "llmtool.json")
    text, file, heat = str(STDLIB / "textwrap.py"), tmp_path / "plan.json", tmp_path / "heat.svg"
    arguments = ("eval", "attention", source, "--data", text, "--samples", "3", "--window", "32")
    done = run(*arguments, "--kv-saving", "25%", "-o", file, "--plot", heat, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(file.read_text())
    assert json.loads(done.stdout)["groups"] == facts["groups"]
    assert (facts["schema"], facts["kv_saving"]) == (plan.SCHEMA, 0.25)
    assert "<svg" in heat.read_text()
    assert (tmp_path / "plan.json.run.json").is_file()
    made = run("convert", "uniattn", source, tmp_path / "u", "--plan", file, "--init", "zero", "--json")
    assert json.loads(made.stdout)["kv_saving"] == 0.25
    assert b"25.00% of the cache saved" in run(*arguments, "--measure", "js").stdout
    for more, words in (
        (("--window", "99"), b"--window 99"),
        (("--kv-saving", "half"), b"--kv-saving half: not a number"),
    ):
        wrong = run(*arguments, *more)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count(b"\n")) == (1, b"", 1)
        assert words in wrong.stderr
    again = run("eval", "attention", tmp_path / "u", "--data", text, "--window", "32")
    assert b"without a softmax of their own" in again.stderr
