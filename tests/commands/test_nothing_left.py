"""A run that made nothing leaves nothing: no directory of its own, and none above it that it made on the way."""

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llmtool
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.commands.tokenizer.shards import encode_shards
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer

TINY: dict[str, Any] = {"model": "40K", "length": 32, "steps": 1, "device": "cpu"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("the cat sat on a mat while dogs ran far from home\n" * 40)
    Tokenizer.train([tmp_path / "text.txt"], 290).save(tmp_path / "tok.json")
    (tmp_path / "empty.txt").touch()
    return tmp_path


def shards(place: Path, text: str, output: Path) -> None:
    tokenizer = Tokenizer.load(place / "tok.json")
    encode_shards(tokenizer, [str(place / text)], output, EncodeSettings(shards="70K", workers=1))


WRITERS: dict[str, Callable[[Path, str, Path], Any]] = {
    "train": lambda place, text, output: llmtool.train(
        [str(place / text)], output, tokenizer=str(place / "tok.json"), **TINY
    ),
    "shards": shards,
    "chunk": lambda place, text, output: llmtool.data.chunk([str(place / text)], output, workers=1),
    "nextlong": lambda place, text, output: llmtool.data.nextlong(
        [str(place / text)], output, tokenizer=str(place / "tok.json"), workers=1
    ),
}


DEEP = ("train", "shards", "chunk")
"""Those that make the directories above theirs."""


@pytest.mark.parametrize("writer", WRITERS)
def test_an_empty_input_is_named_and_leaves_nothing(place: Path, writer: str) -> None:
    before = set(os.listdir(place))
    with pytest.raises(UserError, match=r"empty\.txt: no text found"):
        WRITERS[writer](place, "empty.txt", place / ("new/deep/out" if writer in DEEP else "new"))
    assert set(os.listdir(place)) == before


def test_a_directory_that_is_none_is_not_to_be_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        llmtool.data.report(tmp_path / "long")


def test_what_a_full_disk_stopped_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what cannot be done at all leaves nothing: hours of work are not thrown away for want of room."""
    from llmtool.methods.nextlong import stages

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def make() -> Any:
        return llmtool.data.nextlong([str(place / "rows.jsonl")], place / "long", tokenizer=str(place / "tok.json"),
                                     target=256, size=128, workers=1)  # fmt: skip

    rng, words = random.Random(0), (place / "text.txt").read_text().split()[:11]
    texts = [{"text": "\n\n".join(" ".join(rng.choices(words, k=12)) for _ in range(5))} for _ in range(60)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    with monkeypatch.context() as patch:
        patch.setattr(stages, "embed", full)
        with pytest.raises(UserError, match="no space left on device"):
            make()
    assert (place / "long" / "work" / "chunks" / "done.json").exists()
    assert make()["samples"]
