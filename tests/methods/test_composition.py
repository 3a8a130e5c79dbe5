"""Methods compose: an attention part and a feed-forward part on one checkpoint, in either order."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer, model
from llmtool.commands.convert import dsmoe
from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.inspect import describe
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model.generate import generate
from llmtool.core.run.console import Console
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import draw_ids, save

QUIET = Console(verbosity=-1)


def uniattn(source: Path, output: Path) -> None:
    text = [str(STDLIB / "textwrap.py")]
    convert_uniattn(source, output, groups="2:0:4", calibration=text, samples=8, window=32, ridge=1e-3, console=QUIET)


def split(source: Path, output: Path) -> None:
    dsmoe.convert_dsmoe(source, output, experts=4, console=QUIET)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"uniattn": uniattn, "dsmoe": split}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save(tmp_path_factory.mktemp("m") / "dense", "llama3", 0.3, vocab_size=300, num_hidden_layers=4)
    Tokenizer.train_from_documents(SCRIPTS, 300).save(path / "llmtool.json")
    return path


@pytest.mark.parametrize("order", list(itertools.permutations(CONVERTERS)), ids="-".join)
def test_every_pair_in_both_orders(dense: Path, tmp_path: Path, order: tuple[str, ...]) -> None:
    at = dense
    for name in order:
        CONVERTERS[name](at, tmp_path / name)
        at = tmp_path / name
    found = model.load_model(at)
    assert [method["name"] for method in json.loads((at / "config.json").read_text())["llmtool"]["methods"]] == list(
        order
    )
    ids = draw_ids(2, 20)
    # DSMoE's exact start changes nothing: both orders are UniAttn of the dense model.
    uniattn(dense, tmp_path / "alone")
    alone = model.load_model(tmp_path / "alone")
    assert (found(ids) - alone(ids)).abs().max() < 1e-6
    facts = describe(open_checkpoint(at))
    assert facts["kv_bytes_per_token"] == describe(open_checkpoint(dense))["kv_bytes_per_token"] * 3 // 4
    steps = list(generate(found.decoder, ids.tolist(), max_new_tokens=6))
    assert steps == list(generate(alone.decoder, ids.tolist(), max_new_tokens=6))
    loss = found.decoder.train()(ids).square().mean()
    moved = torch.autograd.grad(
        loss, [p for n, p in found.decoder.named_parameters() if "router" in n or "compens" in n]
    )
    assert all(float(gradient.abs().max()) > 0 for gradient in moved)
    export_model(at, tmp_path / "export", console=QUIET)
    assert {"uniattn_part.py", "dsmoe_part.py"} <= {file.name for file in (tmp_path / "export").iterdir()}
    assert model.load_model(tmp_path / "export")(ids).equal(model.load_model(at)(ids))
