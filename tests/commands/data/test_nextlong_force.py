"""`--force`: what was finished stays, in its place or in OUT/.before, until the new samples are finished."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmtool.commands import data
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.commands.tokenizer.shards import encode_shards
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import stages, synthesis
from llmtool.tokenizer import Tokenizer
from tests.commands.data.nextlong import TARGET, files, make


def all_files(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.fixture
def output(place: Path, tmp_path: Path) -> Path:
    return shutil.copytree(make(place, "base"), tmp_path / "long")


def again(place: Path, output: Path, **settings: Any) -> None:
    make(place, str(output), force=True, **settings)


class Died(BaseException):
    """What nothing catches."""


def dies(*_: Any, **__: Any) -> None:
    raise Died


@pytest.mark.parametrize("where", ["chunk", "index", "mine"])
def test_the_old_samples_stay_until_the_new_ones_are_whole(
    place: Path, output: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    old = all_files(output)
    for seed in (1, 1, 2):  # killed, killed again, given up for another one
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(stages, where, dies)
            again(place, output, seed=seed)
        assert all_files(output / ".before") == old
    again(place, output, seed=1)
    assert not (output / ".before").exists()
    whole = make(place, str(output.with_name("whole")), seed=1)
    assert all_files(output).keys() == all_files(whole).keys()
    assert files(output) == files(whole)


def test_the_same_command_again_goes_on(place: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(stages, "index", dies)
        again(place, output, seed=1)
    monkeypatch.setattr(stages, "fit_lsa", dies)  # of a stage that is finished
    again(place, output, seed=1)
    assert not (output / ".before").exists()


def test_what_fails_puts_the_old_samples_back(place: Path, output: Path) -> None:
    old = all_files(output)
    with pytest.raises(UserError, match="no sample reaches"):
        again(place, output, target=1 << 22)
    assert all_files(output) == old


def test_from_stages_inside_the_output(place: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {name: text for name, text in all_files(output).items() if not name.startswith("work/")}
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "workers": 1, "form": "bin"}
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(synthesis, "make_samples", dies)
        data.assemble(output / "work", output, force=True, **settings)
    assert all_files(output / ".before") == old
    data.assemble(output / "work", output, force=True, **settings)
    assert (output / "samples.bin").exists()
    assert not (output / "samples-00000.jsonl").exists()
    assert not (output / ".before").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_no_shards_of_tokens_are_replaced(place: Path, tmp_path: Path, finished: bool) -> None:
    tokenizer, shards = Tokenizer.load(place / "tok.json"), tmp_path / "shards"
    encode_shards(tokenizer, [str(place / "corpus.jsonl")], shards, EncodeSettings(shards="70K", workers=1))
    if not finished:
        (shards / "run.json").unlink()
    old = all_files(shards)
    with pytest.raises(UserError, match="--force replaces only"):
        again(place, shards)
    assert all_files(shards) == old


@pytest.mark.parametrize("name", ["done.json", "00000.docs.npy"])
def test_a_damaged_stage_is_made_again(place: Path, tmp_path: Path, name: str) -> None:
    work = tmp_path / "work"
    data.chunk([str(place / "corpus.jsonl")], work, size=1024, workers=1)
    whole = all_files(work)
    damaged = work / "chunks" / name
    damaged.write_bytes(damaged.read_bytes()[:90])
    with pytest.raises(UserError, match=name):
        data.embed(work, workers=1)
    data.chunk([str(place / "corpus.jsonl")], work, force=True, size=1024, workers=1)
    assert all_files(work) == whole
