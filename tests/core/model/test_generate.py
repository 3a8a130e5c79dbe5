"""Decoding: what transformers.generate() gives, in batches, sampled with the right chances, stopped, compiled."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool.core.model.decoder import Decoder
from llmtool.core.model.generate import Sampling, chooser, filter_logits, generate
from llmtool.core.model.loading import load_decoder
from tests.core.model.families import draw_ids, oracle, save

STEPS = 20
PROMPTS = [draw_ids(2, 12)[0, 4:].tolist(), draw_ids(2, 12)[1].tolist()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generate")


def load(root: Path, family: str) -> tuple[Path, Decoder]:
    path = root / family
    path = path if path.exists() else save(path, family, 0.3)
    return path, load_decoder(path, Decoder, dtype=torch.float32)


def rows(steps: list[list[int | None]]) -> list[list[int]]:
    return [[token for token in row if token is not None] for row in zip(*steps, strict=True)]


@pytest.mark.parametrize("family", ["llama3.2", "mistral", "qwen2", "qwen3"])
def test_greedy_is_that_of_transformers(root: Path, family: str) -> None:
    path, model = load(root, family)
    padded = torch.tensor([[0] * 4 + PROMPTS[0], PROMPTS[1]])
    settings = {"attention_mask": (padded > 0).long(), "max_new_tokens": STEPS, "do_sample": False}
    wanted = oracle(path, torch.float32).generate(padded, **settings)[:, 12:].tolist()
    found = rows(list(generate(model, PROMPTS, max_new_tokens=STEPS, stop=[96])))
    assert found == [row[: row.index(96) + 1] if 96 in row else row for row in wanted]
    assert found == [rows(list(generate(model, [p], max_new_tokens=STEPS, stop=[96])))[0] for p in PROMPTS]


def test_a_base_that_follows_the_length_is_that_of_transformers(root: Path) -> None:
    path, model = load(root, "dynamic")
    ids = torch.tensor(PROMPTS[1:])
    wanted = oracle(path, torch.float32).generate(ids, max_new_tokens=STEPS, do_sample=False, eos_token_id=None)
    assert ids.shape[1] < model.config.max_position_embeddings < wanted.shape[1]
    assert rows(list(generate(model, PROMPTS[1:], max_new_tokens=STEPS))) == wanted[:, ids.shape[1] :].tolist()
    next(iter(model.ropes.values())).fixed = True  # the table of the whole cache, kept
    assert rows(list(generate(model, PROMPTS[1:], max_new_tokens=STEPS))) != wanted[:, ids.shape[1] :].tolist()


def test_a_row_ends_with_its_stop_and_the_batch_with_the_last(root: Path) -> None:
    _, model = load(root, "llama3.2")
    free = rows(list(generate(model, PROMPTS, max_new_tokens=STEPS)))
    stop = free[0][3]
    steps = list(generate(model, PROMPTS, max_new_tokens=STEPS, stop=[stop]))
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert rows(steps) == cut
    assert len(steps) == max(map(len, cut))


def test_the_compiled_step_is_one_graph_and_gives_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = load(root, "qwen2")
    compile_it, graphs = torch.compile, []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, mode, fullgraph: compile_it(f, backend=count, fullgraph=fullgraph))
    found = list(generate(model, PROMPTS, max_new_tokens=8, compiled=True))
    assert found == list(generate(model, PROMPTS, max_new_tokens=8))
    assert len(graphs) == 1  # no step is compiled anew


def test_sampling_is_seeded(root: Path) -> None:
    _, model = load(root, "llama3.2")

    def draw(seed: int) -> list[list[int | None]]:
        return list(generate(model, PROMPTS, max_new_tokens=8, sampling=Sampling(temperature=1.5, seed=seed)))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_filters_are_those_of_transformers() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0)) * 3
    for temperature, top_k, top_p in ((0.7, 0, 1.0), (1.3, 7, 1.0), (1.0, 0, 0.8), (0.5, 20, 0.6), (1.0, 99, 0.01)):
        wanted = TemperatureLogitsWarper(temperature)(None, logits)
        wanted = TopKLogitsWarper(top_k)(None, wanted) if top_k else wanted
        wanted = TopPLogitsWarper(top_p)(None, wanted) if top_p < 1 else wanted
        assert filter_logits(logits, Sampling(temperature, top_k, top_p)).equal(wanted)


def test_tokens_are_drawn_by_their_chances() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20000, 3)
    drawn = chooser(Sampling(temperature=1.0, seed=5), logits.device)(logits)
    shares = drawn.bincount(minlength=3) / len(drawn)
    assert (shares - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 0.015
    assert chooser(Sampling(), logits.device)(logits).max() == 0
