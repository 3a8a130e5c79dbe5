"""Extended tokenizers: equal to the definition, old encodings kept, cut-offs nested."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer, catalog
from llmtool.core.bpe import engine, extension, reference
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.extension import Extension, Room
from llmtool.core.bpe.policy import Start
from llmtool.core.bpe.pretokenizers import byte_pieces
from llmtool.core.bpe.reference_encoding import encode as encode_by_definition
from llmtool.core.bpe.reference_encoding import model_units
from llmtool.core.bpe.token_filter import KNOWN, SCRIPT, VETOED, TokenFilter
from llmtool.core.bpe.vocabulary import Vocabulary, decode_text, encode_text
from llmtool.core.run.errors import UserError
from llmtool.methods.scaffold_bpe import reference as scaffold_reference
from tests.core.bpe.strategies import pieces, random_base, texts

each = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
POLICY = catalog.resolve(catalog.TRAINING, "bpe")
SCAFFOLD = catalog.resolve(catalog.TRAINING, "scaffold")


def extend(
    base: Definition, corpus: list[str], wanted: int = 20, algorithm: str = "bpe", min_frequency: int = 1,
    longest: int = 1024, allows: Any = None, **room: Any,
) -> Extension:  # fmt: skip
    counts = engine.own_pieces(base, 1, 0, "")
    counts.add([text.encode("utf-8", "surrogatepass") for text in corpus])
    return extension.extend(
        base, counts, catalog.resolve(catalog.TRAINING, algorithm), Room(wanted, **room), algorithm=algorithm,
        min_frequency=min_frequency, max_token_bytes=longest, allows=allows or TokenFilter(base),
    )  # fmt: skip


@given(seed=st.integers(0, 10**6), corpus=texts, wanted=st.integers(1, 15), longest=st.sampled_from([2, 4, 6, 1024]),
       characters=st.booleans())  # fmt: skip
@each
def test_engine_equals_the_definition(
    each_engine: str, seed: int, corpus: list[str], wanted: int, longest: int, characters: bool
) -> None:
    base = random_base(random.Random(seed), characters)
    pieces_of = Counter(piece for text in corpus for piece in byte_pieces(text, base.pretokenizer_steps))
    allows = TokenFilter(base)
    expected = extension.definition(base, pieces_of, wanted, 2, longest, allows)
    if characters:
        pieces_of = Counter(encode_text(text) for text in corpus)
        expected = extension.definition(base, pieces_of, wanted, 2, longest, allows)
    try:
        made = extend(base, corpus, wanted, min_frequency=2, longest=longest).trained.merges
    except UserError:
        made = []
    assert made == expected


@given(seed=st.integers(0, 10**6), corpus=texts, probes=texts)
@each
def test_encodings_are_nested(each_engine: str, seed: int, corpus: list[str], probes: list[str]) -> None:
    """Undoing the new merges, the last first, gives the old encoding; fewer tokens are the first of many."""
    base = random_base(random.Random(seed))
    try:
        found = extend(base, corpus)
    except UserError:
        return
    old = Tokenizer(base)
    for added in {found.added, (found.added + 1) // 2, 1}:
        new = Tokenizer(found.first(added))
        parts = {found.ids[result]: (left, right) for left, right, result in found.trained.merges[:added]}
        number = [ids[0] for ids in found.definition().vocabulary.emit]
        for text in [*corpus, *probes]:
            ids = new.encode(text)
            assert ids == encode_by_definition(new.definition, text)
            while any(i in parts for i in ids):
                ids = [part for i in ids for part in ([number[u] for u in parts[i]] if i in parts else [i])]
            assert ids == old.encode(text)
        if added < found.added:
            assert extend(base, corpus, added).definition() == found.first(added)


@given(seed=st.integers(0, 10**6), corpus=texts)
@each
def test_counts_at_cutoffs(seed: int, corpus: list[str]) -> None:
    base = random_base(random.Random(seed))
    try:
        found = extend(base, corpus)
    except UserError:
        return
    cutoffs = list(range(found.added + 1))
    counts = Counter(i for text in corpus for i in Tokenizer(found.definition()).encode(text))
    for added, at in zip(cutoffs, found.at_cutoffs(counts, cutoffs), strict=True):
        assert at == Counter(i for text in corpus for i in Tokenizer(found.first(added)).encode(text))


@given(corpus=pieces, size=st.integers(256, 262), added=st.integers(1, 12))
@each
def test_scaffolds_equal_the_definition(each_engine: str, corpus: dict[bytes, int], size: int, added: int) -> None:
    lines = [piece for piece, count in corpus.items() for _ in range(count)]
    base = Tokenizer.train_from_documents(lines, size, pretokenizer="none").definition
    sequences = [(run, count) for piece, count in sorted(corpus.items()) for run in model_units(base, piece)]
    start = Start(base.vocabulary.units, sequences)
    state = scaffold_reference.train(start, len(start.units) + added, 1, 1024, TokenFilter(base))
    try:
        found = extend(base, list(map(bytes.decode, lines)), added, "scaffold")
    except UserError:
        assert len(state.merges) == len(state.scaffolds)
        return
    assert found.trained.merges == [(*pair, result) for pair, result in state.merges.items()]
    assert found.trained.scaffolds == state.scaffolds
    new = Tokenizer(found.definition())
    for line in lines:
        assert new.decode_bytes(new.encode(line)) == line


def test_training_in_two_parts_is_training_in_one() -> None:
    """From the bytes on, and by the merges so far, the same pairs are the most frequent."""
    corpus = ["the cat sat on the mat", "the hat that the cat had", "a cat, a hat, a mat"] * 3
    half = Tokenizer.train_from_documents(corpus, 270, pretokenizer="gpt2")
    whole = Tokenizer.train_from_documents(corpus, 285, pretokenizer="gpt2")
    assert extend(half.definition, corpus, 15).definition().vocabulary == whole.definition.vocabulary


def test_special_tokens_are_cut_out_and_never_collide() -> None:
    base = Tokenizer.train_from_documents(["a"], 257, special=["<|end|>"], special_position="last")
    found = extend(base.definition, ["xyz<|end|>xyz<|end|>"] * 5, 2)
    assert found.units[-1] == b"xyz"
    assert sorted(found.ids.values()) == [257, 258]
    assert Tokenizer(found.definition()).encode("xyz<|end|>", allow_special=True) == [258, 256]


def test_a_known_spelling_is_refused_and_leaves_its_count_to_its_parts() -> None:
    units = [*(bytes([byte]) for byte in range(256)), b"ab", b"cd"]
    base = Definition(Vocabulary(units, [(99, 100, 257)], [(i,) for i in range(258)]), "none")
    allows = TokenFilter(base)
    found = extend(base, ["abx"] * 5, 5, allows=allows)
    assert found.units[258:] == [b"bx", b"abx"]
    assert allows.examples == {KNOWN: [b"ab"]}


def test_veto_and_scripts(tmp_path: Any) -> None:
    base = Tokenizer.train_from_documents(["a"], 256, pretokenizer="gpt2").definition
    corpus = ["λόγος λόγος word1 word1 слово слово 漢字漢字 "] * 9
    greek = TokenFilter(base, scripts=["Greek"])
    found = extend(base, corpus, 60, allows=greek)
    new = [found.units[unit] for unit in found.ids]
    assert " λόγος".encode() in new
    assert greek.refused[SCRIPT]
    for token in new:
        text = decode_text(token).strip()
        assert not any("a" <= c <= "z" or "а" <= c <= "я" or "一" <= c <= "鿿" or c.isdigit() for c in text)
        assert not {0xD0, 0xE6} & {*token}  # first bytes of Cyrillic and of Han
    (tmp_path / "words").write_text("λόγος\n")
    vetoed = TokenFilter(base, [r"\d", str(tmp_path / "words")])
    texts = [decode_text(token) for token in extend(base, corpus, 90, allows=vetoed).units[256:]]
    assert vetoed.refused[VETOED]
    assert " word" in texts
    assert not any("1" in text or text.strip() == "λόγος" for text in texts)
    with pytest.raises(UserError, match="--scripts Klingon: no such script"):
        TokenFilter(base, scripts=["Klingon"])
    with pytest.raises(UserError, match="--veto"):
        TokenFilter(base, ["("])


def test_room() -> None:
    base = Tokenizer.train_from_documents(["abc " * 30], 259, pretokenizer="gpt2").definition
    assert Room(100).check(base) == 100
    assert Room(100, multiple=64).check(base) == 61
    assert Room(100, rows=300).check(base) == 41
    for room in (Room(10, multiple=64), Room(10, rows=259)):
        with pytest.raises(UserError, match="no room for one more token"):
            room.check(base)
    with pytest.raises(UserError, match="no new pair occurs 50 times: nothing to add"):
        extend(base, ["xyz"] * 9, 5, min_frequency=50)


def test_first_ids_follow_all_that_there_are() -> None:
    """Added tokens above the vocabulary, and gaps: as Qwen2's and Llama 3's."""
    base = Tokenizer.train_from_documents(["a"], 257, special=["<|end|>"], special_position="last").definition
    token = replace(base.vocabulary.added[0], id=300)
    base = replace(base, vocabulary=replace(base.vocabulary, added=(token,)))
    assert min(extend(base, ["xyxy"] * 4, 2).ids.values()) == 301


def test_real_text(sources: list[bytes], each_engine: str) -> None:
    """Trained on half of some real text, extended on the rest: old text's ids are kept where no new pair is met."""
    base = Tokenizer.train_from_documents(sources[:20], 500, pretokenizer="gpt2")
    found = extend(base.definition, [decode_text(text[:3000]) for text in sources[20:]], 100)
    new = Tokenizer(found.definition())
    assert not found.unreachable()
    merged = {(left, right) for left, right, _ in found.trained.merges}
    unit_of = {ids[0]: unit for unit, ids in enumerate(found.definition().vocabulary.emit)}
    kept = 0
    for text in sources[:8]:
        for line in text.decode("utf-8", "replace").splitlines():
            ids = base.encode(line)
            pairs = {(unit_of[a], unit_of[b]) for a, b in pairwise(ids)}
            if not pairs & merged:
                assert new.encode(line) == ids
                kept += 1
            assert len(new.encode(line)) <= len(ids)
    assert kept > 50


def test_no_merges_to_go_on_from() -> None:
    vocabulary = Vocabulary([bytes([b]) for b in range(256)], [], [(i,) for i in range(256)])
    base = Definition(vocabulary, "none", encoder="lbpe")
    with pytest.raises(UserError, match="no merges to go on from"):
        extend(base, ["abab"])


def test_references_take_a_start() -> None:
    assert reference.train(Start([b"a", b"b", b"ab"], [([2, 2, 0], 4)]), 4) == [(2, 0, 3)]
