"""The definition of plain BPE equals the `tokenizers` package: merges, and ids of any text."""

import json
from collections import Counter

from hypothesis import assume, given, settings
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmtool.core.bpe import reference
from llmtool.core.bpe.pretokenizers import split
from llmtool.core.bpe.vocabulary import BYTE_ORDER, token_to_string
from tests.core.bpe.strategies import piece, pieces


def peer(corpus: dict[bytes, int], vocab_size: int) -> Tokenizer:
    """A `tokenizers` BPE trained on pieces: each piece is one document, without any pre-tokenizer but bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((p.decode() for p, count in corpus.items() for _ in range(count)), trainer)
    return tokenizer


def spelled(merges: list[tuple[int, int, int]]) -> list[list[str]]:
    """Merges as tokenizer.json spells them."""
    units = [bytes([byte]) for byte in BYTE_ORDER]
    for left, right, result in merges:
        if result == len(units):
            units.append(units[left] + units[right])
    return [[token_to_string(units[left]), token_to_string(units[right])] for left, right, _ in merges]


@given(pieces)
@settings(max_examples=150, deadline=None)
def test_merges_equal_the_peer(corpus: dict[bytes, int]) -> None:
    merges = reference.train(corpus, 270)
    theirs = json.loads(peer(corpus, 270).to_str())["model"]["merges"]
    # A pair can come back after another way of spelling its part was merged; there they list it twice.
    assume(len({tuple(pair) for pair in theirs}) == len(theirs))
    assert spelled(merges) == theirs


def test_merges_and_ids_equal_the_peer_on_real_text(sources: list[bytes]) -> None:
    text = b"".join(sources[:3])[:20_000].decode(errors="ignore")
    corpus = Counter(split("gpt2", text.encode()))
    merges = reference.train(corpus, 400)
    tokenizer = peer(corpus, 400)
    assert spelled(merges) == json.loads(tokenizer.to_str())["model"]["merges"]
    rank = {byte: unit for unit, byte in enumerate(BYTE_ORDER)}
    for word in list(corpus)[:500]:
        ours = reference.encode_piece([rank[byte] for byte in word], merges)
        assert ours == tokenizer.encode(word.decode()).ids


@given(pieces, piece)
@settings(max_examples=100, deadline=None)
def test_ids_equal_the_peer(corpus: dict[bytes, int], word: bytes) -> None:
    tokenizer = peer(corpus, 266)
    theirs = json.loads(tokenizer.to_str())["model"]["merges"]
    assume(len({tuple(pair) for pair in theirs}) == len(theirs))
    rank = {byte: unit for unit, byte in enumerate(BYTE_ORDER)}
    merges = reference.train(corpus, 266)
    assert reference.encode_piece([rank[byte] for byte in word], merges) == tokenizer.encode(word.decode()).ids


def test_overlapping_pairs_are_counted_and_replaced_left_to_right() -> None:
    assert reference.replace([1, 1, 1], (1, 1), 9) == [9, 1]
    corpus = reference.Corpus({b"aaa": 2, b"bc": 3})
    a, b, c = (BYTE_ORDER.index(byte) for byte in b"abc")
    assert corpus.pair_frequencies() == {(a, a): 4, (b, c): 3}


def test_ties_go_to_the_smaller_pair() -> None:
    (left, right, _), *_ = reference.train({b"zy": 3, b"ab": 3}, 257)
    assert (left, right) == (BYTE_ORDER.index(b"a"), BYTE_ORDER.index(b"b"))


def test_min_frequency_ends_training() -> None:
    assert len(reference.train({b"ab": 3, b"cd": 2}, 300, min_frequency=3)) == 1
    assert len(reference.train({b"ab": 3, b"cd": 2}, 300)) == 2
