"""Comparison on files: parallel rows are matched by id wherever they come from."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.compare import compare_files, short_names
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    trained = Tokenizer.train_from_documents(SCRIPTS * 3, 400)
    return {"bpe": trained, "lbpe": trained.with_encoder("lbpe")}


def test_parity_by_id(tokenizers: dict[str, Tokenizer], write: Callable[..., Path]) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(SCRIPTS)]
    reference = write("reference.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    reverse = "".join(json.dumps(row | {"text": row["text"] * 2}) + "\n" for row in rows[::-1])
    doubled = write("doubled.jsonl.gz", gzip.compress(reverse.encode()))
    plain = write("plain.txt", SCRIPTS[0])
    comparison = compare_files(tokenizers, [str(doubled), str(plain)], reference=str(reference))
    figures = comparison.measured["bpe"].corpora
    once, twice = ([len(tokenizers["bpe"].encode(text * n)) for text in SCRIPTS] for n in (1, 2))
    assert figures["doubled"].parity_rows == len(SCRIPTS)
    assert figures["doubled"].parity == pytest.approx(sum(twice) / sum(once))
    assert figures["plain"].parity is None


def test_names() -> None:
    assert short_names(["a/x.jsonl.gz", "b/y.json"]) == ["x", "y"]
    assert short_names(["a/x.json", "b/x.json"]) == ["a/x.json", "b/x.json"]
    with pytest.raises(UserError, match="named twice"):
        short_names(["a", "a"])


def test_a_figure_that_cannot_be_drawn_is_refused_first(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(UserError, match="name it"):
        compare_files(tokenizers, ["nowhere.txt"], plot=Path("figure.gif"))
