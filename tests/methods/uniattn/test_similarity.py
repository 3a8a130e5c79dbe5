"""Likeness of attention maps, and the plan against every other plan."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.model.config import Config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.uniattn import plan, reference
from llmtool.methods.uniattn.heads import best_heads, layer_scores, readable, score_heads
from llmtool.methods.uniattn.plot import draw_layers
from llmtool.methods.uniattn.similarity import (
    Measure,
    attention_maps,
    best_groups,
    followers_for,
    head_similarity,
    mean_similarity,
    similarity,
)
from llmtool.methods.uniattn.streaming import Model
from llmtool.model import build_parts, load_model
from tests.cli.test_app import run
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import save
from tests.methods.uniattn.models import config, decoder, draw

QUIET = Console(verbosity=-1)


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


@pytest.mark.parametrize("measure", ["cosine", "js"])
def test_heads_each_with_each(measure: Measure) -> None:
    """Likeness of one pair of heads as its definition writes it; head by head it is the layers'."""
    maps = attention_maps(decoder(config(groups=[]), 0.3), draw(1, 9)[0])
    found = head_similarity(maps, measure)
    assert found.shape == (7, 4, 7, 4)
    if measure == "cosine":
        for one, head, other, match in ((3, 1, 1, 2), (6, 0, 5, 3), (2, 2, 2, 2)):
            assert float(found[one, head, other, match]) == pytest.approx(
                reference.likeness(maps[one, head], maps[other, match]), abs=1e-5
            )
    diagonal = found.diagonal(dim1=1, dim2=3).mean(-1)
    assert torch.allclose(diagonal, similarity(maps, measure), atol=1e-5)


def saved(tmp_path: Path) -> CheckpointReader:
    return open_checkpoint(save(tmp_path / "m", "llama3", 0.3, num_hidden_layers=4))


def test_streamed_scores_are_the_literal_ones(tmp_path: Path) -> None:
    """By maps as the whole model's; by error as if one head of one layer alone read another map."""
    checkpoint = saved(tmp_path)
    model = load_model(checkpoint.path).decoder
    base, rows = Model(model.config, build_parts(model.config)), draw(2, 12)
    pairs = {1: [0], 3: [2, 0]}
    double = torch.float64
    alike = score_heads(checkpoint, base, rows, pairs, "similarity", QUIET, double)
    whole = mean_similarity(model, rows, "cosine")
    assert alike.keys() == {(1, 0), (3, 2), (3, 0)}
    assert all(torch.allclose(table, whole[pair], atol=1e-5) for pair, table in alike.items())
    errors = score_heads(checkpoint, base, rows, pairs, "error", QUIET, double)
    state = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for layer, source, head, other in ((1, 0, 2, 5), (3, 0, 0, 1), (3, 2, 5, 5)):
            own = [(layer, at) for at in range(6)]
            _, _, wanted = literal(state, model.config, rows, layer, own)
            _, _, got = literal(state, model.config, rows, layer, [(source, other) if at == head else pair
                                                                   for at, pair in enumerate(own)])  # fmt: skip
            error = ((got[layer] - wanted[layer]).square().sum(-1) / wanted[layer].square().sum(-1)).mean()
            assert float(errors[layer, source][head, other]) == pytest.approx(-float(error), rel=1e-4), (layer, head)


def literal(state: Any, settings: Config, rows: torch.Tensor, layer: int, heads: list[tuple[int, int]]) -> Any:
    """The dense model, but for heads of one layer; a layer that reads itself makes its own maps."""
    maps = reference_maps(state, settings, rows)
    p = torch.stack([maps[source][:, head] for source, head in heads], 1)
    return reference.forward(state, settings, list(range(4)), rows, given={layer: p})


def reference_maps(state: Any, settings: Config, rows: torch.Tensor) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    reference.forward(state, settings, list(range(4)), rows, keep=kept)
    return kept


def test_the_best_heads_and_who_may_be_read() -> None:
    groups, windows = [[1, 2, 3], [5, 6]], (None,) * 7
    assert readable(groups, "group", windows) == {2: [1], 3: [1], 6: [5]}
    assert readable(groups, "earlier", windows) == {2: [1], 3: [1], 6: [5, 1]}
    assert readable(groups, "any", windows) == {2: [1, 0], 3: [1, 0], 6: [5, 4, 1, 0]}
    assert readable(groups, "any", (7, None, None, None, 7, None, None))[6] == [5, 1]
    scores = {(2, 1): torch.tensor([[0.1, 0.5], [0.4, 0.3]]), (2, 0): torch.tensor([[0.5, 0.2], [0.1, 0.6]])}
    assert best_heads(scores, {2: [1]}) == {2: [(1, 1), (1, 0)]}
    assert best_heads(scores, {2: [1, 0]}) == {2: [(1, 1), (0, 1)]}  # of equal scores the nearest layer's
    assert layer_scores(scores, 3, "similarity", matched=True)[1][2] == pytest.approx(0.45)
    assert layer_scores(scores, 3, "error", matched=False)[2][0] == pytest.approx(1.1)


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
    assert "layer 1 reads 0" in heat.read_text() or facts["groups"][0][0] != 0
    assert facts["head_map"].keys() == {str(layer) for group in facts["groups"] for layer in group[1:]}
    assert (tmp_path / "plan.json.run.json").is_file()
    made = run("convert", "uniattn", source, tmp_path / "u", "--plan", file, "--init", "zero", "--json")
    assert json.loads(made.stdout)["kv_saving"] == 0.25
    methods = json.loads((tmp_path / "u" / "config.json").read_text())["llmtool"]["methods"]
    assert (methods[0]["version"], methods[0]["head_map"]) == (2, facts["head_map"])
    assert b"25.00% of the cache saved" in run(*arguments, "--measure", "js", "--heads", "identity").stdout
    alone = json.loads(run(*arguments, "--kv-saving", "25%", "--heads", "identity", "--json").stdout)
    assert (alone["similarity"], alone["groups"]) == (facts["similarity"], facts["groups"])  # the map is another matter
    by_matches = run(*arguments, "--plan-by", "similarity", "--kv-saving", "25%", "--json")
    pairs = [(a, b) for a in range(6) for b in range(a)]
    matched = json.loads(by_matches.stdout)["similarity"]
    assert all(matched[a][b] >= facts["similarity"][a][b] for a, b in pairs)
    assert matched != facts["similarity"]
    measured = run(*arguments, "--plan-by", "error", "--leaders", "any", "-o", tmp_path / "e.json", "--plot",
                   tmp_path / "e.svg")  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    assert b"of the residual stream's energy; heads matched" in measured.stdout
    other = run(*arguments, "-o", file, "--tokenizer", source)
    assert (other.returncode, b"--tokenizer" in other.stderr) == (1, True), other.stderr
    for more, words in (
        (("--window", "99"), b"--window 99"),
        (("--kv-saving", "half"), b"--kv-saving half: not a number"),
    ):
        wrong = run(*arguments, *more)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count(b"\n")) == (1, b"", 1)
        assert words in wrong.stderr
    again = run("eval", "attention", tmp_path / "u", "--data", text, "--window", "32")
    assert b"without a softmax of their own" in again.stderr


def test_the_figure_names_its_checkpoint() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    draw_layers(figure, [[1.0, 0.5], [0.5, 1.0]], [[0, 1]], "cosine", "SmolLM2")
    assert figure.axes[0].get_title().startswith("SmolLM2: leader and follower")
