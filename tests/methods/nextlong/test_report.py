"""What the report counts, on samples made by hand."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from llmtool.methods.nextlong.counting import groups
from llmtool.methods.nextlong.dependency import contexts
from llmtool.methods.nextlong.report import _corpus_mix, text_of
from llmtool.methods.nextlong.store import Store


def row(order: str) -> dict[str, Any]:
    """Spans of "A B 1b 2b": capitals are meta-chunks (chunks 1, 2, ...), digits the ranks of what B found."""
    spans: list[dict[str, Any]] = []
    for place, name in enumerate(order.split()):
        if name.isupper():
            spans.append({"role": "meta", "chunk_id": ord(name) - 64})
        else:
            score = ord(name[1]) - 96 + int(name[0]) / 10
            spans.append({"role": "negative", "chunk_id": 100 + place, "rank": int(name[0]), "score": score})
    return {"spans": spans}


@pytest.mark.parametrize(
    ("position", "order", "expected"),
    [
        ("head", "A B 1b 2b C 1c", {1: [], 2: [2.1, 2.2], 3: [3.1]}),
        (None, "A B 1b 2b C 1c", {1: [], 2: [2.1, 2.2], 3: [3.1]}),
        (None, "A 1a B 1b", {1: [1.1], 2: [2.1]}),
        ("tail", "A 1b 2b B 1c C", {1: [], 2: [2.1, 2.2], 3: [3.1]}),
        (None, "1a 2a A 1b B 1c", {1: [1.1, 1.2], 2: [2.1]}),
        ("random", "1a A 2a 1b 2b B C 1c", {1: [1.1, 1.2], 2: [2.1, 2.2], 3: [3.1]}),
        ("random", "A 1b B 2b 1c C 2c", {1: [], 2: [2.1, 2.2], 3: [3.1, 3.2]}),
        ("random", "A B 1b", {1: [], 2: []}),  # either may have found it
        ("head", "", {}),
        (None, "", {}),
    ],
)
def test_negatives_belong_to_the_meta_chunk_that_found_them(
    position: str | None, order: str, expected: dict[int, list[float]]
) -> None:
    assert groups(row(order), position) == expected


def test_the_context_without_meta_chunks_has_the_separator_of_the_sample() -> None:
    text = "AAA ## n1 ## n2 ## BBB"
    roles = ("meta", "negative", "negative", "meta")
    chars = ([0, 3], [7, 9], [13, 15], [19, 22])
    spans = [{"role": role, "chars": chars, "tokens": chars} for role, chars in zip(roles, chars, strict=True)]
    before, without, meta, gap = contexts({"text": text, "spans": spans}, 1)
    assert (before, without, meta, gap) == ("AAA ## n1 ## n2 ## ", "n1 ## n2 ## ", "BBB", 16)


def test_a_text_from_chunks_has_the_separator_of_the_run() -> None:
    texts = [b"one", b"two"]
    store = SimpleNamespace(chunks=2, passage=lambda start, stop, most: b"".join(texts[start:stop]))
    spans = [{"chunk_id": number, "chars": [0, 3]} for number in range(2)]
    assert text_of({"spans": spans}, cast(Store, store), " ## ") == b"one ## two"
    assert text_of({"spans": spans}, cast(Store, store)) == b"one\n\ntwo"


def test_the_mix_of_the_corpus_is_one_of_characters() -> None:
    lengths = np.array([100, 100, 1800])
    store = SimpleNamespace(
        chunks=3, sources=["short", "long"], source=np.array([0, 1]), lengths=lambda start, stop: lengths[start:stop],
        document_of=lambda chunks: np.searchsorted([0, 2, 3], chunks, "right") - 1,
    )  # fmt: skip
    assert _corpus_mix(cast(Store, store)) == {"short": 0.1, "long": 0.9}
