"""Rows of tensors: read from files without the rest, drawn for a new model, and shared out as FSDP2 does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmtool.commands.train.start import Start
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model import new
from llmtool.core.model.config import parse_config
from llmtool.core.model.loading import load_decoder, rows_of
from llmtool.core.model.new import FirstRows, initialise
from llmtool.core.run.errors import UserError
from llmtool.core.train.sharding import own_rows
from llmtool.model import build
from tests.core.model import families
from tests.core.model.families import FAMILIES, save
from tests.core.model.test_mixture import MIXTURES


@pytest.mark.parametrize("count, size", [(1, 1), (7, 2), (3, 4), (8, 4), (9, 4), (300, 7)])
def test_rows_are_shared_out_as_torch_cuts(count: int, size: int) -> None:
    whole = list(range(count))
    parts = [list(part) for part in torch.chunk(torch.tensor(whole), size)]
    parts += [[]] * (size - len(parts))
    for rank in range(size):
        world: Any = SimpleNamespace(rank=rank, size=size)
        assert whole[own_rows(count, world).start : own_rows(count, world).stop] == [int(x) for x in parts[rank]]


@pytest.mark.parametrize("family", ["llama3", "qwen3", "phi3", "mixtral", "gemma3", "granite4"])
def test_rows_of_a_checkpoint_are_those_of_the_loaded_model(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "FAMILIES", {**FAMILIES, **MIXTURES})
    save(tmp_path / "m", family, 0.1)
    wanted = load_decoder(tmp_path / "m", build, dtype=torch.float32).state_dict()
    checkpoint = open_checkpoint(tmp_path / "m")
    with torch.device("meta"):
        decoder = build(parse_config(checkpoint.config))
    rows = rows_of(decoder, checkpoint)
    for name, value in wanted.items():
        if name not in checkpoint:
            continue
        parts = [rows(name, range(first, min(first + 3, len(value)))) for first in range(0, len(value), 3)]
        assert torch.cat(parts).equal(value)
        assert rows(name, range(0)).shape == (0, *value.shape[1:])


@pytest.mark.parametrize("family", ["llama3", "gemma2", "qwen2"])
def test_rows_of_a_new_model_are_its_first_weights(family: str) -> None:
    from tests.core.model.families import BASE

    config = parse_config({**BASE, **FAMILIES[family]})
    whole = build(config)
    initialise(whole, 5, 0.03)
    with torch.device("meta"):
        shape = build(config)
    first = FirstRows(shape, 5, 0.03)
    assert not first.missing
    for name, value in whole.state_dict().items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            assert first(name, range(1, 4)).equal(value[1:4])
            assert first(name, range(len(value))).equal(value)


METHODS: dict[str, dict[str, Any]] = {
    "dsmoe": {"version": 2, "experts": 4, "layers": [0, 2], "gate_scale": [1.0, 1.0], "form": "unit", "off_mean": True},
    "uniattn": {"groups": [[0, 1]], "compensation": "linear"},
    "uniattn, of a rank": {"groups": [[0, 2]], "compensation": {"rank": 4}},
    "cla": {"groups": [[0, 1, 2]]},
    "cartesian_moe": {"experts": 5, "layers": [1]},
    "mask_moe": {"experts": 11, "layers": [0, 1], "shared": True},
    "finedeep": {"sublayers": 2, "experts": 4, "layers": [0, 1, 2]},
    "finedeep, of sums": {"sublayers": 1, "experts": 4, "layers": [1], "router": "output-linear"},
    "harpe": {"bases": [1e4, 5e4]},
    **{f"cartesian_rival, {kind}": {"kind": kind, "experts": 4, "layers": [1]}
       for kind in ("share", "top3", "hash", "fine", "topp", "deep")},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_rows_of_a_new_model_with_a_method_are_its_first_weights(name: str) -> None:
    """Whatever its parts begin with, drawn or not, and whatever the global random state is."""
    entry = {"name": name.partition(",")[0], "version": 1, **METHODS[name]}
    raw = {**families.BASE, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}}
    start = Start(raw, parse_config(raw))
    whole = start.decoder(5).state_dict()
    torch.manual_seed(99)
    decoder, rows = start.shards(5)
    assert rows is not None
    assert all(value.is_meta for value in decoder.parameters())
    assert decoder.state_dict().keys() == whole.keys()
    for of, value in whole.items():
        middle = rows(of, range(1, len(value) - 1))
        assert middle.dtype == value.dtype
        assert middle.equal(value[1:-1]), of
        assert rows(of, range(len(value))).equal(value), of
        assert rows(of, range(0)).shape == (0, *value.shape[1:])


@pytest.mark.parametrize("shape", [(3,), (7, 1), (17, 1), (40, 3), (33, 5), (100, 16), (9, 4, 7)])
def test_rows_that_are_drawn_in_pieces_are_those_of_one_draw(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new, "PIECE", 48)
    whole = torch.empty(shape)
    new.draw("a name", whole, 0.02, 3)
    for rows in (range(shape[0]), range(1, shape[0]), range(shape[0] - 1), range(2, 3)):
        assert new.draw_rows("a name", shape, rows, 0.02, 3).equal(whole[rows.start : rows.stop])
    assert not new.draw_rows("another", shape, range(shape[0]), 0.02, 3).equal(whole)


def test_broken_rows_are_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "llama3", 0.1)
    checkpoint = open_checkpoint(path)
    entry = checkpoint.entry("model.norm.weight")
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(entry.start + 8 * 3)
        file.write(b"\xff" * 8)
    assert checkpoint.read("model.norm.weight", rows=range(4, 9)).isfinite().all()
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        checkpoint.read("model.norm.weight", rows=range(2, 5))
