"""Algorithms 1 and 2 on corpora small enough to follow by hand, and the laws that hold on every corpus."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.policy import Trained
from llmtool.core.bpe.vocabulary import BYTE_ORDER
from llmtool.methods.scaffold_bpe import reference
from llmtool.methods.scaffold_bpe.training import ScaffoldBPE
from tests.core.bpe.strategies import pieces


def units_of(state: reference.Scaffolding, marked: bool) -> set[bytes]:
    return {
        unit
        for number, unit in enumerate(state.corpus.units)
        if number >= 256 and (number in state.scaffolds) == marked
    }


def test_a_token_that_only_builds_another_is_scaffold() -> None:
    # Each step uses up the token before it, as "zion" never ends early.
    state = reference.train({b"zion": 10, b"ab": 8}, 256 + 2)
    # (i, o), then (z, io) before (io, n) since z < io: f(io) = 0 < 10, marked; then (zio, n): f(zio) = 0 < 8, marked.
    assert units_of(state, marked=False) == {b"zion", b"ab"}
    assert units_of(state, marked=True) == {b"io", b"zio"}
    assert state.promotions == 0


def test_a_scaffold_that_is_frequent_enough_is_promoted_again() -> None:
    # "ab" occurs in "abc" 8 times and alone 5 times: after (ab, c) it keeps 5, fewer than the head (x, y) with 7.
    state = reference.train({b"abc": 8, b"ab": 5, b"xy": 7}, 256 + 2)
    assert units_of(state, marked=True) == {b"ab"}
    longer = reference.train({b"abc": 8, b"ab": 5, b"xy": 7, b"qr": 2}, 256 + 3)
    # Next (x, y) 7 is merged; then "ab" with 5 is the head of Q, before (q, r) with 2.
    assert units_of(longer, marked=True) == set()
    assert units_of(longer, marked=False) == {b"abc", b"xy", b"ab"}
    assert (longer.marks, longer.promotions) == (1, 1)
    assert len(longer.merges) == 3


def test_both_parts_of_a_doubled_token_are_used() -> None:
    # (a, a) in "aaaa": two replacements; then (aa, aa): f(aa) = 2 - 2 = 0.
    state = reference.train({b"aaaa": 4, b"bc": 3}, 256 + 2)
    assert units_of(state, marked=True) == {b"aa"}


def test_bytes_are_never_scaffold() -> None:
    state = reference.train({b"ab": 10, b"cd": 9, b"ef": 8}, 256 + 3)
    assert state.scaffolds == set()


def test_min_frequency_counts_promotions_too() -> None:
    corpus = {b"abc": 8, b"ab": 2, b"xy": 7}
    assert units_of(reference.train(corpus, 300, min_frequency=3), marked=True) == {b"ab"}
    assert units_of(reference.train(corpus, 300, min_frequency=2), marked=True) == set()


def test_demolishing_follows_the_recursion() -> None:
    # 300 = 299 + c, 299 = a + b; 299 normal, then scaffold.
    formed = {299: (1, 2), 300: (299, 3)}
    assert reference.demolish(300, {300}, formed) == [299, 3]
    assert reference.demolish(300, {299, 300}, formed) == [1, 2, 3]
    assert reference.demolish(300, {299}, formed) == [300]


@given(pieces, st.integers(256, 275))
@settings(max_examples=150, deadline=None)
def test_laws(corpus: dict[bytes, int], size: int) -> None:
    state = reference.train(corpus, size)
    assert state.normal <= size
    assert all(unit >= 256 for unit in state.scaffolds)
    assert state.marks - state.promotions == len(state.scaffolds)
    merges = [(left, right, result) for (left, right), result in state.merges.items()]
    parts = ScaffoldBPE().parts(Trained(merges, state.scaffolds))
    units = state.corpus.units
    for unit, shorter in parts.items():
        assert b"".join(units[part] for part in shorter) == units[unit]
        assert not state.scaffolds & set(shorter)


def test_no_scaffold_leaves_the_encoder(each_engine: str, sources: list[bytes]) -> None:
    text = b"".join(sources[:20])
    plain = Tokenizer.train_from_documents([text], 1500, algorithm="bpe")
    tokenizer = Tokenizer.train_from_documents([text], 1500, algorithm="scaffold")
    vocabulary = tokenizer.definition.vocabulary
    assert len(vocabulary.scaffolds) > 50
    assert tokenizer.vocab_size == plain.vocab_size == 1500
    ids = tokenizer.encode(text)
    assert max(ids) < 1500
    assert tokenizer.decode_bytes(ids) == text
    # What the method is for: hardly a token without use, and fewer tokens in all than plain BPE needs.
    unused = [sum(1 for t in range(256, 1500) if t not in used) for used in (Counter(ids), Counter(plain.encode(text)))]
    assert unused[0] < unused[1]
    assert len(ids) < len(plain.encode(text))


def test_encoding_is_merging_over_e_and_then_demolishing(each_engine: str, sources: list[bytes]) -> None:
    text = b"".join(sources[:8])
    tokenizer = Tokenizer.train_from_documents([text], 700, algorithm="scaffold", pretokenizer="gpt2")
    vocabulary = tokenizer.definition.vocabulary
    from llmtool.core.bpe import reference as plain
    from llmtool.core.bpe.pretokenizers import split

    pairs = reference.formed_by(vocabulary.merges)
    scaffolds = set(vocabulary.scaffolds)
    for piece in list(dict.fromkeys(split("gpt2", text)))[:1500]:
        units = plain.encode_piece([BYTE_ORDER.index(byte) for byte in piece], vocabulary.merges)
        normal = [part for unit in units for part in reference.demolish(unit, scaffolds, pairs)]
        expected = [vocabulary.emit[unit][0] for unit in normal]
        assert tokenizer.encode(piece) == expected
