"""LBPE as stock components: equal to the definition on any vocabulary, and recognised when read back."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Theirs

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.export import export_huggingface
from llmtool.core.bpe.pretokenizers import CUSTOM
from llmtool.core.bpe.stock_form import tokenizer_json
from llmtool.core.bpe.vocabulary import BYTE_ORDER, Vocabulary
from llmtool.core.run.errors import UserError
from llmtool.methods.lbpe.export import LONGEST_TOKEN, one_of, stock_form
from llmtool.methods.lbpe.reference import encode_piece
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS


def of_tokens(tokens: set[bytes], pretokenizer: str = "none") -> Definition:
    """A vocabulary of these tokens and the bytes, without merges."""
    units = [*(bytes([byte]) for byte in BYTE_ORDER), *sorted(token for token in tokens if len(token) > 1)]
    vocabulary = Vocabulary(units, [], [(number,) for number in range(len(units))])
    return Definition(vocabulary, pretokenizer, encoder="lbpe")


def stock(definition: Definition) -> Theirs:
    return Theirs.from_str(json.dumps(tokenizer_json(definition, **stock_form(definition))))


@pytest.fixture(scope="module")
def trained(sources: list[bytes]) -> Tokenizer:
    """Scaffold-BPE's vocabulary, cut by LBPE."""
    documents = [source[:20_000] for source in [*sources[:12], *sources[-8:]]]
    special = ["<|endoftext|>", "<s>"]
    return Tokenizer.train_from_documents(documents, 900, algorithm="scaffold-lbpe", special=special)


@pytest.fixture
def exported(trained: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("llmtool.core.bpe.export.agreement", lambda *_, **__: None)
    export_huggingface(trained, tmp_path / "out")
    return tmp_path / "out" / "tokenizer.json"


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.text("ab", min_size=2, max_size=6) | st.text("aé漢 .*\\|n", min_size=1, max_size=3), max_size=25),
    st.lists(st.text("ab", max_size=20) | st.text("aé漢 .*\\|n()b", max_size=12), min_size=1, max_size=5),
)
def test_equals_the_definition_on_any_vocabulary(tokens: set[str], texts: list[str]) -> None:
    definition = of_tokens({token.encode() for token in tokens})
    ids = definition.vocabulary.id_of
    theirs = stock(definition)
    for text in texts:
        assert theirs.encode(text).ids == encode_piece(text.encode(), ids)


def test_equals_the_definition_on_real_text(trained: Tokenizer, exported: Path, sources: list[bytes]) -> None:
    theirs = Theirs.from_file(str(exported))
    documents = [source[:5_000].decode("utf-8", "replace") for source in sources[20:40]]
    documents += [*SCRIPTS, "", "a" * 300, "<s>a<|endoftext|> <s", "x" + " " * 70]
    wanted = trained.encode_batch(documents, allow_special=True)
    got = [encoding.ids for encoding in theirs.encode_batch(documents, add_special_tokens=False)]
    assert got == wanted
    assert theirs.decode_batch(got, skip_special_tokens=False) == documents
    merged = trained.with_encoder("merge").encode_batch(documents, allow_special=True)
    assert sum(a != b for a, b in zip(merged, wanted, strict=True)) > 15, "the two encoders hardly differ here"


def test_read_back_as_lbpe(trained: Tokenizer, exported: Path) -> None:
    again = Tokenizer.load(exported)
    assert again.definition.encoder == "lbpe"
    assert again.special_tokens == trained.special_tokens
    assert again.encode_batch(SCRIPTS) == trained.encode_batch(SCRIPTS)
    Theirs.from_file(str(exported)).save(str(exported))
    assert Tokenizer.load(exported).definition == again.definition


def drop_a_length(facts: Any) -> None:
    del facts["pre_tokenizer"]["pretokenizers"][-3]


def swap_two_lengths(facts: Any) -> None:
    steps = facts["pre_tokenizer"]["pretokenizers"]
    steps[-1], steps[-2] = steps[-2], steps[-1]


def drop_the_guards(facts: Any) -> None:
    for step in facts["pre_tokenizer"]["pretokenizers"][2:]:
        step["pattern"]["Regex"] = step["pattern"]["Regex"].rpartition(r"\z|")[2]


def add_a_merge(facts: Any) -> None:
    facts["model"]["merges"] = [["i", "n"]]


@pytest.mark.parametrize("change", [drop_a_length, swap_two_lengths, drop_the_guards, add_a_merge])
def test_only_the_exact_form_is_recognised(exported: Path, change: Callable[[Any], None]) -> None:
    facts = json.loads(exported.read_text())
    change(facts)
    exported.write_text(json.dumps(facts))
    again = Tokenizer.load(exported)
    assert again.definition.encoder == "merge"
    assert again.definition.pretokenizer == CUSTOM
    texts = [text[:200] for text in SCRIPTS]
    theirs = Theirs.from_file(str(exported)).encode_batch(texts, add_special_tokens=False)
    assert again.encode_batch(texts) == [encoding.ids for encoding in theirs]


def test_each_part_of_the_form_is_needed(trained: Tokenizer, exported: Path) -> None:
    for change in (drop_a_length, swap_two_lengths, drop_the_guards):
        facts = json.loads(exported.read_text())
        change(facts)
        theirs = Theirs.from_str(json.dumps(facts))
        texts = [text + " implementation of the representation" for text in SCRIPTS]
        assert [theirs.encode(text).ids for text in texts] != trained.encode_batch(texts), change.__name__


@pytest.mark.parametrize(("length", "ties"), [("characters", "leftmost"), ("bytes", "rank")])
def test_other_settings_are_refused(trained: Tokenizer, tmp_path: Path, length: str, ties: str) -> None:
    with pytest.raises(UserError, match=f"length '{length}', ties '{ties}' has no stock form"):
        export_huggingface(trained.with_encoder("lbpe", length, ties), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_long_tokens(tmp_path: Path) -> None:
    runs = {b"=" * size for size in (2, 3, LONGEST_TOKEN - 1, LONGEST_TOKEN)}
    text = "=" * (3 * LONGEST_TOKEN - 1)
    assert len(stock(of_tokens(runs)).encode(text).ids) == 3  # 400, 400, 399
    with pytest.raises(UserError, match=f"a token of {LONGEST_TOKEN + 1} bytes is too long"):
        stock_form(of_tokens(runs | {b"=" * (LONGEST_TOKEN + 1)}))


@given(st.sets(st.text(min_size=1, max_size=6), min_size=1, max_size=12), st.text(max_size=6))
def test_one_of_matches_the_words_and_nothing_else(words: set[str], other: str) -> None:
    pattern = re.compile(one_of(words), re.DOTALL)
    assert all(pattern.fullmatch(word) for word in words)
    assert bool(pattern.fullmatch(other)) == (other in words)


def test_the_form_has_no_merges_and_no_scaffolds(trained: Tokenizer) -> None:
    assert trained.definition.vocabulary.scaffolds
    form = stock_form(trained.definition)
    assert form["model"]["merges"] == []
    assert len(form["model"]["vocab"]) == trained.vocab_size
