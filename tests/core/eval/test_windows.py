"""Windows of ids from text, ids and chance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool import Tokenizer
from llmtool.core.eval.windows import Sample, cut, take_sample
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS

Write = Callable[[str, bytes | str], Path]


def sample(text: list[str] | None, ids: str | None, **options: Any) -> Sample:
    def no_tokenizer() -> Any:
        raise AssertionError("no tokenizer is needed")

    settings = {"tokenizer": no_tokenizer, "vocab_size": 300, "length": 8, "tokens": 100, "seed": 1, **options}
    return take_sample(text, ids, **settings)


def test_cutting() -> None:
    documents = [[1, 2, 3, 4, 5], [], [6], [7, 8, 9]]
    assert list(cut(documents, 2, 100)) == [[1, 2], [3, 4], [5], [6], [7, 8], [9]]
    assert list(cut(documents, 2, 4)) == [[1, 2], [3, 4]]
    assert list(cut(documents, 4, 7)) == [[1, 2, 3, 4], [5], [6], [7]]
    assert list(cut([], 4, 7)) == []


def test_random_ids() -> None:
    windows = list(sample(None, None).windows)
    assert [len(window) for window in windows] == [8] * 12 + [4]
    assert windows == list(sample(None, None).windows) != list(sample(None, None, seed=2).windows)
    drawn = {token for window in sample(None, None, tokens=10_000).windows for token in window}
    assert drawn == set(range(300))


def test_text_and_ids_are_the_same(write: Write, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train_from_documents(SCRIPTS, 300)
    text = write("a.txt", SCRIPTS[0])
    ids = tokenizer.encode(SCRIPTS[0])
    lines = write("ids.txt", " ".join(map(str, ids)) + "\n")
    from_text = sample([str(text)], None, tokenizer=lambda: tokenizer)
    from_ids = sample(None, str(lines))
    assert list(from_text.windows) == list(from_ids.windows) == list(cut([ids], 8, 100))
    assert (from_text.source, from_ids.source) == (str(text), str(lines))


def test_what_is_refused(write: Write) -> None:
    lines = write("ids.txt", "1 2\n3 300 4\n")
    with pytest.raises(UserError, match=r"ids.txt: document 2 holds id 300, the model has 300 tokens"):
        list(sample(None, str(lines)).windows)
    with pytest.raises(UserError, match="document 1 holds id -1"):
        list(sample(None, str(write("ids.txt", "-1\n"))).windows)
    with pytest.raises(UserError, match="both text and ids were given"):
        sample(["a"], "b")
