"""A tiny corpus and its tokenizer."""

from pathlib import Path

import numpy as np
import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.encode import encode_files
from tests.commands.train.runs import run

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "dogs",
    "ran",
    "far",
    "from",
    "home",
    "and",
    "birds",
    "sang",
    "songs",
    "of",
    "light",
    "rain",
]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with text.jsonl-like lines, bpe.json, train.bin and other.bin."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(0)
    for name, lines in (("train", 600), ("other", 80)):
        picks = draw.zipf(1.5, (lines, 12)) % len(WORDS)
        (folder / f"{name}.txt").write_text("\n".join(" ".join(WORDS[i] for i in row) for row in picks))
    tokenizer = Tokenizer.train([folder / "train.txt"], 300, special=["<|endoftext|>"], text_mode="line")
    tokenizer.save(folder / "bpe.json")
    for name in ("train", "other"):
        encode_files(
            tokenizer, [str(folder / f"{name}.txt")], folder / f"{name}.bin", form="bin", eos=True, text_mode="line"
        )
    return folder


@pytest.fixture(scope="session")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run(corpus, output, valid=[f"other={corpus / 'other.bin'}"])
    return output


@pytest.fixture(autouse=True)
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure is half a second, and looked at in one test, whose run is made before this."""
    from llmtool.core.train import summary

    monkeypatch.setattr(summary, "draw", lambda log, path, console: False)
