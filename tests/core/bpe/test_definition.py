"""The tokenizer file: strict reading, one line for whatever is wrong, and a fingerprint of what decides ids."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmtool import Tokenizer
from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.definition_file import serialize
from llmtool.core.bpe.normalizers import NFC
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_from_documents(SCRIPTS * 2, 400, algorithm="scaffold", special=["<|endoftext|>"])


Change = Callable[[dict[str, Any]], Any]

WRONG: list[tuple[Change, str]] = [
    (lambda f: f.update(extra=1), "unknown field 'extra'"),
    (lambda f: f.update(merge=f.pop("merges")), "did you mean 'merges'"),
    (lambda f: f.pop("scaffolds"), "field 'scaffolds' is missing"),
    (lambda f: f.update(merges={}), "field 'merges' has the wrong type"),
    (lambda f: f.update(schema="llmtool.tokenizer/9"), "schema 'llmtool.tokenizer/9'"),
    (lambda f: f["pretokenizer"].update(name="gpt5"), "unknown pre-tokenizer 'gpt5'"),
    (lambda f: f["pretokenizer"].update(pattern=r"\s+"), "pattern is not the pattern of 'llama3'"),
    (lambda f: f["pretokenizer"].update(unicode="3.0"), "this llmtool cuts by Unicode"),
    (lambda f: f["encoder"].update(name="longest"), "tokenizer encoding 'longest' is not known"),
    (lambda f: f["encoder"].update(length="words"), "encoder.length 'words' is not known"),
    (lambda f: f["encoder"].update(ties="right"), "encoder.ties 'right' is not known"),
    (lambda f: f.update(normalizer="NFKC"), "normalizer 'NFKC' is not implemented"),
    (lambda f: f["vocabulary"].update({"a b": 9999}), "which spells no byte"),
    (lambda f: f["vocabulary"].update({"abcd": 300}), "two tokens share an id"),
    (lambda f: f["vocabulary"].update({"abcd": -1}), "an id is negative"),
    (lambda f: f["vocabulary"].update({"abcd": "7"}), "not whole numbers"),
    (lambda f: f["vocabulary"].pop("ø"), "lacks 1 of the 256 bytes"),
    (lambda f: f["special_tokens"].update({"<x>": 5}), "two tokens share an id"),
    (lambda f: f["special_tokens"].update({"<x>": None}), "special_tokens are not whole numbers"),
    (lambda f: f["merges"].append(["a", "zzzz"]), "does not join two units"),
    (lambda f: f["merges"].append(["a"]), "does not join two units"),
    (lambda f: f["merges"].append([["a"], "b"]), "does not join two units"),
    (lambda f: f["merges"].append(7), "does not join two units"),
    (lambda f: f["merges"].append(f["merges"][3]), "is listed twice"),
    (lambda f: f["vocabulary"].update({"": 5000}), "a token is empty"),
    (lambda f: f["special_tokens"].update({"": 5000}), "a token is empty"),
    (lambda f: f["vocabulary"].update({"abcd": 1 << 40}), "is too large"),
    (lambda f: f.update(eos="<nope>"), "eos '<nope>' is not an added token"),
    (lambda f: f["merges"].append("ab"), "does not join two units"),
    (lambda f: f["merges"].append({"a": 1, "b": 2}), "does not join two units"),
    (lambda f: f["scaffolds"].update({next(iter(f["scaffolds"])): [5, 6]}), "is not spelled by its parts"),
    (lambda f: f["scaffolds"].update({next(iter(f["scaffolds"])): []}), "not whole numbers"),
]


@pytest.mark.parametrize("change, what", WRONG)
def test_one_line_for_what_is_wrong(
    tokenizer: Tokenizer, write: Callable[..., Path], change: Change, what: str
) -> None:
    facts = json.loads(serialize(tokenizer.definition))
    change(facts)
    path = write("tok.json", json.dumps(facts))
    with pytest.raises(UserError, match=what) as raised:
        Tokenizer.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content, what",
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "not a tokenizer file"),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema": ' + "9" * 5000 + "}", "thousands of digits"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_foreign_files(write: Callable[..., Path], content: bytes | str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        Tokenizer.load(write("tok.json", content))


def test_truncated_files(tokenizer: Tokenizer, write: Callable[..., Path]) -> None:
    whole = serialize(tokenizer.definition)
    for size in range(1, len(whole) - 2, len(whole) // 50):
        with pytest.raises(UserError):
            Tokenizer.load(write("tok.json", whole[:size]))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Tokenizer.load(tmp_path / "tok.json")
    with pytest.raises(UserError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)


def test_fingerprint_is_of_what_decides_ids(tokenizer: Tokenizer) -> None:
    definition = tokenizer.definition
    same = [
        replace(definition, training={}),
        replace(definition, chat_template="x"),
        replace(definition, algorithm="y"),
    ]
    assert {d.fingerprint() for d in same} == {definition.fingerprint()}
    vocabulary = definition.vocabulary
    swapped = [vocabulary.merges[1], vocabulary.merges[0], *vocabulary.merges[2:]]
    other = [
        definition.with_encoder("lbpe"),
        definition.with_encoder("lbpe", ties="rank"),
        replace(definition, pretokenizer="qwen2"),
        replace(definition, normalizer=(NFC,)),
        replace(definition, vocabulary=replace(vocabulary, merges=swapped)),
        replace(definition, vocabulary=replace(vocabulary, added=special_tokens({"<|end|>": 0}))),
    ]
    assert len({d.fingerprint() for d in [definition, *other]}) == 7


def test_special_position(tokenizer: Tokenizer) -> None:
    last = Tokenizer.train_from_documents(SCRIPTS, 300, special=["<a>"], special_position="last").definition
    assert (tokenizer.definition.special_position, last.special_position) == ("first", "last")
