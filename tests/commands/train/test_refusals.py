"""What training refuses, in one line, with what it had left intact."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest

from llmtool import Tokenizer
from llmtool.commands.train.command import train
from llmtool.core.run.errors import UserError
from tests.commands.train.runs import TINY, run, stop_after


def test_changed_settings_or_data_are_refused_by_key(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 5)
    run(corpus, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"--lr: 0.01 -> 0.02.*--force"):
        run(corpus, tmp_path / "out", lr=0.02)
    with pytest.raises(UserError, match=r"the data's content"):
        train([f"train={corpus / 'other.bin'}"], tmp_path / "out", **TINY, tokenizer=str(corpus / "bpe.json"))
    run(corpus, tmp_path / "out", save_every=3)  # how often it is saved may change
    with pytest.raises(UserError, match="complete already"):
        run(corpus, tmp_path / "out", save_every=3)
    run(corpus, tmp_path / "out", lr=0.02, force=True)


def test_a_finished_run_stays_until_the_one_that_replaces_it_is_finished(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out", tmp_path / "out" / ".before"
    run(corpus, out)
    (out / "notes.txt").write_text("mine")
    old = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr("llmtool.commands.train.run.watch", broken)
        with pytest.raises(UserError, match="no use"):
            run(corpus, out, lr=0.02, force=True)  # before a step is made: all as it was
    assert contents(out) == old
    stop_after(monkeypatch, 5)
    run(corpus, out, lr=0.02, force=True)
    assert {**contents(kept), "notes.txt": b"mine"} == old
    assert not (out / "model.safetensors").exists()
    run(corpus, out, lr=0.03, force=True)  # the one that was not finished goes, the finished one stays
    monkeypatch.undo()
    assert {**contents(kept), "notes.txt": b"mine"} == old
    (kept / "train.json").rename(tmp_path / "aside")  # as if killed while it was put aside
    (out / "train.json").unlink()
    (tmp_path / "aside").rename(out / "train.json")
    for name in ("metrics.jsonl", "checkpoints"):
        (out / name).unlink() if (out / name).is_file() else rmtree(out / name)
    with pytest.raises(UserError, match="complete already"):
        run(corpus, out)
    assert contents(out) == old
    run(corpus, out, lr=0.02, force=True)
    assert not kept.exists()
    assert contents(out)["model.safetensors"] != old["model.safetensors"]
    with pytest.raises(UserError, match="complete already"):
        run(corpus, out, lr=0.02)


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*")
            if path.is_file() and path.relative_to(place).parts[0] != ".before"}  # fmt: skip


def broken(*_: Any, **__: Any) -> Any:
    raise UserError("no use")


def test_a_full_disk_is_one_line_and_the_last_state_stays(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmtool.core.train import state

    save = state._save_tensors

    def full(values: Any, folder: Path, world: Any) -> None:
        if "12" in folder.name:
            (folder / "half").write_bytes(b"x")
            raise OSError(28, "No space left on device")
        save(values, folder, world)

    monkeypatch.setattr(state, "_save_tensors", full)
    with pytest.raises(UserError, match=r"cannot write: no space left.*last state is intact"):
        run(corpus, tmp_path / "out")
    assert os.listdir(tmp_path / "out" / "checkpoints") == ["00000006"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": "nothing"}, "no such file"),
    ({"model": "10"}, "no model of 10 parameters"),
    ({"model": "1K"}, "no model of 1,000 parameters"),
    ({"length": 64, "model": "START"}, "rows of 64 tokens.*made for 32"),
    ({"batch": 16}, "less than a row"),
    ({"batch": "many"}, "--batch many"),
    ({"tokens": 100}, "say the same thing twice"),
    ({"lr": -1.0}, "learning rate"),
    ({"lr": 0.0}, "learning rate"),
    ({"steps": None, "epochs": 0.0}, "no token to train on"),
    ({"warmup": 25}, "25 steps of warm-up"),
    ({"only": ["*.mlp.*", "*.router.*"]}, r"--only \*\.router\.\*: the model has no parameter of this name"),
    ({"only": ["model.layers.0.mlp.up_pro.weight"]}, "did you mean 'model.layers.0.mlp.up_proj.weight'"),
    ({"set": ["dsmoe.x=1"]}, "no such method in use"),
    ({"set": ["x"]}, "METHOD.KEY=VALUE"),
    ({"overrides": ["rope_theta"]}, "KEY=VALUE"),
    ({"overrides": ["hidden_act=gelu"]}, "hidden_act"),
    ({"valid": ["nowhere"]}, "no such file"),
    ({"tokenizer": None, "valid": ["TEXT"]}, "needs a tokenizer"),
    ({"parallel": "fsdp"}, "torchrun"),
    ({"tokenizer": "OTHER"}, "another tokenizer"),
]


@pytest.mark.parametrize("changes, line", BAD)
def test_bad_requests_are_one_line(
    corpus: Path, whole: Path, tmp_path: Path, changes: dict[str, Any], line: str, write: Callable[..., Path]
) -> None:
    if changes.get("model") == "START":
        changes = {**changes, "model": str(whole)}
    if changes.get("tokenizer") == "OTHER":
        Tokenizer.train([corpus / "other.txt"], 290).save(tmp_path / "other.json")
        changes = {**changes, "tokenizer": str(tmp_path / "other.json")}
    if changes.get("valid") == ["TEXT"]:
        changes = {**changes, "valid": [str(corpus / "other.txt")]}
    with pytest.raises(UserError, match=line):
        run(corpus, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_bad_data_is_one_line(corpus: Path, tmp_path: Path, whole: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    np.save(tmp_path / "large.npy", np.arange(5000))
    for data, line in (("empty.txt", "input is empty"), ("none.txt", "no such file"), ("large.npy", "holds id 4,999")):
        with pytest.raises(UserError, match=line):
            train([str(tmp_path / data)], tmp_path / "out", **TINY, tokenizer=str(corpus / "bpe.json"))
    with pytest.raises(UserError, match="no data"):
        train([], tmp_path / "out", **TINY)
    broken = tmp_path / "broken"
    broken.mkdir()
    facts = json.loads((whole / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**facts, "hidden_size": 64}))
    (broken / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"shape .*, wanted"):
        run(corpus, tmp_path / "out", model=str(broken))


def test_events_are_not_written_into_an_input(corpus: Path, whole: Path, tmp_path: Path) -> None:
    before = sorted(os.listdir(whole))
    (tmp_path / "file").write_text("")
    for board, line in (
        (whole, "is also an input"), (whole / "runs", "lies inside the input"), (corpus, "contains the input"),
        (tmp_path / "file", "not a directory"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=line):
            run(corpus, tmp_path / "out", model=str(whole), steps=2, tensorboard=board)
    assert sorted(os.listdir(whole)) == before
    assert not (tmp_path / "out").exists()
