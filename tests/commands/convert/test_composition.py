"""Methods compose: an attention part and feed-forward parts on one checkpoint, in any order that makes sense."""

import itertools
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer, model
from llmtool.commands.convert import dsmoe
from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.inspect import describe
from llmtool.commands.convert.rope import convert_rope
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.commands.convert.upcycle import convert_cartesian, convert_finedeep, convert_mask
from llmtool.commands.token_experts import token_experts
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model.generate import generate
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.dsmoe.report import use
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import draw_ids, save

QUIET = Console(verbosity=-1)


def uniattn(source: Path, output: Path) -> None:
    text = [str(STDLIB / "textwrap.py")]
    convert_uniattn(source, output, groups="2:0:4", calibration=text, samples=8, window=32, ridge=1e-3, console=QUIET)


def split(source: Path, output: Path, layers: str | None = None) -> None:
    dsmoe.convert_dsmoe(source, output, experts=4, layers=layers, console=QUIET)


def cartesian(source: Path, output: Path, layers: str | None = None) -> None:
    convert_cartesian(source, output, experts=4, layers=layers or "0-3", console=QUIET)


def mask(source: Path, output: Path, layers: str | None = None) -> None:
    table = source.parent / "table"
    token_experts([str(STDLIB / "textwrap.py")], table, model=str(source), experts=4, force=True, console=QUIET)
    convert_mask(source, output, table, layers=layers, console=QUIET)


def finedeep(source: Path, output: Path, layers: str | None = None) -> None:
    convert_finedeep(source, output, experts=4, layers=layers, console=QUIET)


FEED_FORWARD = {"dsmoe": split, "cartesian_moe": cartesian, "mask_moe": mask, "finedeep": finedeep}
"""Each starts at the dense model; of two, each has layers of its own."""
MOVES = {
    "uniattn": "compens", "dsmoe": "mlp.router.weight", "cartesian_moe": "mlp.a.experts.down",
    "mask_moe": "mlp.experts.gate", "finedeep": "mlp.sub.0.router",
}  # fmt: skip
"""A part of the name of a parameter that must get a gradient at once."""


def applied(dense: Path, folder: Path, order: tuple[str, ...]) -> Path:
    """The checkpoint after the methods of `order`."""
    at, halves = dense, iter(("0-1", "2-3"))
    several = sum(name in FEED_FORWARD for name in order) > 1
    for name in order:
        to = folder / name
        if name == "uniattn":
            uniattn(at, to)
        else:
            FEED_FORWARD[name](at, to, next(halves) if several else None)
        at = to
    return at


ORDERS = [
    *[("uniattn", name) for name in FEED_FORWARD], ("dsmoe", "uniattn"), ("mask_moe", "uniattn"),
    *itertools.combinations(FEED_FORWARD, 2), ("mask_moe", "uniattn", "cartesian_moe"),
]  # fmt: skip


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save(tmp_path_factory.mktemp("m") / "dense", "llama3", 0.3, vocab_size=300, num_hidden_layers=4)
    Tokenizer.train_from_documents(SCRIPTS, 300).save(path / "llmtool.json")
    return path


@pytest.fixture(scope="module")
def alone(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alone") / "uniattn"
    uniattn(dense, path)
    return path


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_pair(dense: Path, alone: Path, tmp_path: Path, order: tuple[str, ...]) -> None:
    at = applied(dense, tmp_path, order)
    found = model.load_model(at)
    methods = json.loads((at / "config.json").read_text())["llmtool"]["methods"]
    assert [method["name"] for method in methods] == list(order)
    ids = draw_ids(2, 20)
    # The others start exactly: every order is UniAttn of the dense model, or the dense model.
    wanted = model.load_model(alone if "uniattn" in order else dense)
    assert (found(ids) - wanted(ids)).abs().max() < 1e-6
    if "uniattn" in order:
        facts = describe(open_checkpoint(at))
        assert facts["kv_bytes_per_token"] == describe(open_checkpoint(dense))["kv_bytes_per_token"] * 3 // 4
    steps = list(generate(found.decoder, ids.tolist(), max_new_tokens=6))
    assert steps == list(generate(wanted.decoder, ids.tolist(), max_new_tokens=6))
    loss = found.decoder.train()(ids).square().mean()
    named = [(n, p) for n, p in found.decoder.named_parameters()]
    gradients = dict(zip((n for n, _ in named), torch.autograd.grad(loss, [p for _, p in named]), strict=True))
    for method in order:
        moved = [gradient for name, gradient in gradients.items() if MOVES[method] in name]
        assert moved
        assert all(float(gradient.abs().max()) > 0 for gradient in moved)
    export_model(at, tmp_path / "export", console=QUIET)
    assert {f"{name}_part.py" for name in order} <= {file.name for file in (tmp_path / "export").iterdir()}
    assert model.load_model(tmp_path / "export")(ids).equal(model.load_model(at)(ids))


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_harpe_with_each(dense: Path, tmp_path: Path, name: str) -> None:
    """Frequencies and feed-forward parts know nothing of each other: either order is HARPE of the dense model."""
    convert_rope(dense, tmp_path / "harpe", target=4096, range_="1M:2M", console=QUIET)
    wanted = model.load_model(tmp_path / "harpe")
    FEED_FORWARD[name](dense, tmp_path / "part")
    convert_rope(tmp_path / "part", tmp_path / "after", target=4096, range_="1M:2M", console=QUIET)
    FEED_FORWARD[name](tmp_path / "harpe", tmp_path / "before")
    ids = draw_ids(2, 20)
    assert (wanted(ids) - model.load_model(dense)(ids)).abs().max() > 1e-3
    for place, order in (("after", [name, "harpe"]), ("before", ["harpe", name])):
        methods = json.loads((tmp_path / place / "config.json").read_text())["llmtool"]["methods"]
        assert [method["name"] for method in methods] == order
        found = model.load_model(tmp_path / place)
        assert (found(ids) - wanted(ids)).abs().max() < 1e-6
        steps = list(generate(found.decoder, ids.tolist(), max_new_tokens=4))
        assert steps == list(generate(wanted.decoder, ids.tolist(), max_new_tokens=4))
    export_model(tmp_path / "after", tmp_path / "export", console=QUIET)
    assert model.load_model(tmp_path / "export")(ids).equal(model.load_model(tmp_path / "after")(ids))


def unit(source: Path, output: Path) -> None:
    text = [str(STDLIB / "textwrap.py"), str(STDLIB / "heapq.py")]
    dsmoe.convert_dsmoe(source, output, calibration=text, calibration_tokens=600, share=0.5, off_mean=True, refit=True,
                        console=QUIET)  # fmt: skip


@pytest.mark.parametrize("order", itertools.permutations(["uniattn", "dsmoe", "harpe"]), ids="-".join)
def test_fitted_parts_in_any_order(dense: Path, tmp_path: Path, order: tuple[str, ...]) -> None:
    """DSMoE's unit form with closed blocks, UniAttn with a head map, HARPE: decoded with a cache, and exported."""
    at = dense
    for name in order:
        if name == "harpe":
            convert_rope(at, tmp_path / name, target=4096, range_="1M:2M", console=QUIET)
        else:
            {"uniattn": uniattn, "dsmoe": unit}[name](at, tmp_path / name)
        at = tmp_path / name
    methods = json.loads((at / "config.json").read_text())["llmtool"]["methods"]
    assert [(method["name"], method["version"]) for method in methods if method["name"] != "harpe"] == [
        (name, 2) for name in order if name != "harpe"
    ]
    found, ids = model.load_model(at), draw_ids(2, 20)
    steps = torch.tensor([list(step) for step in generate(found.decoder, ids.tolist(), max_new_tokens=6)]).T
    grown = torch.cat([ids, steps], 1)
    assert found(grown)[:, 19:-1].argmax(-1).equal(steps)
    assert all(0 < share < 1 for share in use(found.decoder, ids.tolist()).share)
    export_model(at, tmp_path / "export", console=QUIET)
    assert model.load_model(tmp_path / "export")(ids).equal(found(ids))


def test_a_layer_is_converted_once(dense: Path, tmp_path: Path) -> None:
    cartesian(dense, tmp_path / "c", "1")
    for convert in FEED_FORWARD.values():
        with pytest.raises(UserError, match="layer 1 is no dense feed-forward layer"):
            convert(tmp_path / "c", tmp_path / "x", "0-1")
