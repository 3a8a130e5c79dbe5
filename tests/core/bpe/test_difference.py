"""What differs between two tokenizers; bytes a token by size."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.difference import _longest_rise, compare_texts, difference
from llmtool.core.bpe.size_curve import tokens_at
from llmtool.core.run.errors import UserError

CORPUS = ["the cat sat on the mat", "the hat that the cat had", "a cat, a hat, a mat"] * 3


def test_nothing_differs_from_itself() -> None:
    tokenizer = Tokenizer.train_from_documents(CORPUS, 280, pretokenizer="gpt2")
    assert difference(tokenizer, tokenizer).same_ids
    assert compare_texts(tokenizer, tokenizer, [("a", b"the cat")]).changed == 0


def test_tokens_ids_merges_and_settings() -> None:
    old = Tokenizer.train_from_documents(CORPUS, 265, pretokenizer="gpt2")
    longer = Tokenizer.train_from_documents(CORPUS, 268, pretokenizer="gpt2", special=["<s>"])
    found = difference(old, longer)
    assert [token for _, token in found.added] == [b"<s>", *(longer.token_bytes(n) for n in (266, 267))]
    assert found.gone == []
    assert found.renumbered[0] == (b"!", 0, 1)
    assert len(found.renumbered) == 265
    assert len(found.merges_added) == 2
    assert found.settings["special tokens"] == ([], ["<s>"])
    assert found.settings["bos"] == (None, "<s>")
    back = difference(longer, old)
    assert [token for _, token in back.gone] == [token for _, token in found.added]


def test_a_merge_that_moved() -> None:
    old = Tokenizer.train_from_documents(CORPUS, 266, pretokenizer="gpt2")
    vocabulary = old.definition.vocabulary
    merges = [*vocabulary.merges[1:], vocabulary.merges[0]]
    new = Tokenizer(replace(old.definition, vocabulary=replace(vocabulary, merges=merges)))
    left, right, _ = vocabulary.merges[0]
    assert difference(old, new).merges_moved == [(vocabulary.units[left], vocabulary.units[right])]


def test_worst_texts_first() -> None:
    old = Tokenizer.train_from_documents(CORPUS, 257, pretokenizer="gpt2")
    new = Tokenizer.train_from_documents(CORPUS, 285, pretokenizer="gpt2")
    texts = [("one", b"zzz"), ("two", b"the cat"), ("three", b"the cat the cat the cat"), ("four", b"the hat")]
    found = compare_texts(old, new, texts, most=2)
    assert (found.number, found.changed) == (4, 3)
    assert [each.name for each in found.worst] == ["three", "two"]
    assert b"".join(found.worst[0].old_cut).startswith(b"".join(found.worst[0].new_cut)[:5])
    assert found.before == sum(len(old.encode(text)) for _, text in texts)


@given(st.permutations(range(7)))
def test_longest_rise(ranks: list[int]) -> None:
    best = max((rise(ranks, mask) for mask in range(1 << 7)), key=len)
    found = _longest_rise(ranks)[::-1]
    assert found == sorted(found)
    assert len(found) == len(best)
    assert [n for n in ranks if n in found] == found


def rise(ranks: list[int], mask: int) -> list[int]:
    """The chosen ones, where they rise."""
    chosen = [n for place, n in enumerate(ranks) if mask >> place & 1]
    return chosen if chosen == sorted(chosen) else []


def test_curve_equals_training_each_size() -> None:
    special = ["<s>"]
    whole = Tokenizer.train_from_documents(CORPUS, 290, pretokenizer="gpt2", special=special)
    text = "the cat that had a mat sat; a hat the cat had"
    counts = Counter(whole.encode(text))
    sizes = [257, 260, 270, whole.token_count]
    smaller = [Tokenizer.train_from_documents(CORPUS, n, pretokenizer="gpt2", special=special) for n in sizes]
    assert tokens_at(whole.definition, counts, sizes) == [len(each.encode(text)) for each in smaller]
    with pytest.raises(UserError, match="--curve 999: sizes lie between 257 and"):
        tokens_at(whole.definition, counts, [999])
    with pytest.raises(UserError, match="--curve is for plain BPE"):
        tokens_at(whole.with_encoder("lbpe").definition, counts, [260])
