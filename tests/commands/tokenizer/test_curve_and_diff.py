"""`tokenizer train --curve` and `tokenizer diff` as functions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.diff import diff, lines
from llmtool.commands.tokenizer.train import train_file
from llmtool.core.run.console import QUIET
from llmtool.core.run.errors import UserError

TEXT = "In the beginning God created the heaven and the earth; and the earth was without form. " * 5


def test_curve(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = str(write("text.txt", TEXT))
    named = {"vocab_size": 300, "pretokenizer": "gpt2", "console": QUIET}
    report = train_file([text], tmp_path / "tok.json", curve="260,280", plot=tmp_path / "curve.png", **named)  # type: ignore[arg-type]
    points = report["curve"]["training text"]
    assert [point["size"] for point in points] == [260, 280, 300]
    tokenizer = Tokenizer.load(tmp_path / "tok.json")
    assert points[-1]["bytes_per_token"] == pytest.approx(len(TEXT) / len(tokenizer.encode(TEXT)))
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    for wrong, why in (
        ({"curve": "260,400"}, "--vocab-size 300 is trained"),
        ({"plot": tmp_path / "x.png"}, "go with"),
    ):
        with pytest.raises(UserError, match=why):
            train_file([text], tmp_path / "other.json", **named, **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "other.json").exists()


def test_diff(write: Callable[[str, str], Path]) -> None:
    old = Tokenizer.train_from_documents([TEXT], 280, pretokenizer="gpt2")
    new = Tokenizer.train_from_documents([TEXT], 290, pretokenizer="gpt2")
    report = diff(old, new, corpus=[str(write("text.txt", TEXT))], show=3)
    assert json.loads(json.dumps(report)) == report
    assert (report["added"]["number"], report["gone"]["number"], report["texts"]["changed"]) == (10, 0, 1)
    said = "\n".join(lines(report))
    assert "tokens added    10  (" in said
    assert "1 of 1 are cut otherwise" in said
    assert next(lines(diff(old, old))) == "nothing that decides ids differs"
