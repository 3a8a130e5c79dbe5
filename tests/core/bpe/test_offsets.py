"""Where ids come from in the text as it was given: as `tokenizers` has it."""

import json
from itertools import product
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Theirs

from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.normalizers import Step, normalize
from llmtool.core.bpe.offsets import _origins
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.families import BYTE_PIPELINES, CHARACTER_PIPELINES, Facts, families
from tests.core.bpe.test_families import texts

NAMES = [*BYTE_PIPELINES, *CHARACTER_PIPELINES]
DROPPED = "StarCoder, SmolLM, Granite 3"
"""Lacks bytes: `tokenizers` does not count a symbol that it drops, so that later ranges of a piece lie too far left."""


@pytest.fixture(scope="module")
def built() -> dict[str, Facts]:
    return dict(families([*SCRIPTS]))


@pytest.mark.parametrize("name", NAMES)
def test_offsets_are_theirs(name: str, built: dict[str, Facts]) -> None:
    facts = built[name]
    ours = Tokenizer(read_huggingface(facts, Path("x.json")))
    for trims in (False, True):
        if trims:
            facts = {**facts, "post_processor": {"type": "ByteLevel", "trim_offsets": True, "add_prefix_space": False}}
            ours = Tokenizer(read_huggingface(facts, Path("x.json")))
        theirs = Theirs.from_str(json.dumps(facts))
        for text in [*SCRIPTS, "", " ", "a  b", "e\u0301a\u0308\u0323 \u0958", *texts(NAMES.index(name) + 5, 30)]:
            found = theirs.encode(text, add_special_tokens=False)
            ids, spans = ours.encode_with_offsets(text, allow_special=True)
            assert ids == found.ids
            if name != DROPPED or text in SCRIPTS:
                assert spans == found.offsets, text


@pytest.mark.parametrize("name", [*CHARACTER_PIPELINES])
def test_marks_in_the_text_itself_are_told_from_those_for_spaces(name: str, built: dict[str, Facts]) -> None:
    """A text with both ended in an IndexError where the marks are split off."""
    ours, theirs = Tokenizer(read_huggingface(built[name], Path("x.json"))), Theirs.from_str(json.dumps(built[name]))
    for text in map("".join, product(("a", " ", "\u2581", "b "), repeat=4)):
        ids, spans = ours.encode_with_offsets(text)
        found = theirs.encode(text, add_special_tokens=False)
        assert (ids, spans) == (found.ids, found.offsets), text


def test_a_normalizer_of_many_steps_is_followed() -> None:
    """SentencePiece's own: a table, spaces at the ends, several spaces between, one in front."""
    steps: list[Step] = [
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": r"\A +|[ \u2581]+\z"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ]
    text = "  \ufb01n   e\u0301  "
    origins = _origins(steps, text)
    assert normalize(text, steps) == "\u2581fin\u2581\xe9"
    assert origins == [(2, 3), (2, 3), (2, 3), (3, 4), (4, 7), (7, 8)]


def test_special_tokens_are_text_unless_allowed(built: dict[str, Facts]) -> None:
    ours = Tokenizer(read_huggingface(built["Llama 2, TinyLlama, Yi"], Path("x.json")))
    ids, spans = ours.encode_with_offsets("a</s>b")
    assert ids == ours.encode("a</s>b")
    assert (spans[0], spans[-1]) == ((0, 1), (5, 6))
    assert ours.encode_with_offsets("a</s>b", allow_special=True)[1] == [(0, 1), (1, 5), (5, 6)]
