"""Trimmed tokenizers: text without a removed token keeps its encoding, on random tokenizers, by merges and by text."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.post_processors import template
from llmtool.core.bpe.trimming import GONE, Goal, read_keep, trim
from llmtool.core.bpe.vocabulary import Vocabulary
from llmtool.core.run.errors import UserError
from tests.core.bpe.strategies import random_base, texts

each = settings(max_examples=60, deadline=None)


def removable(base: Definition, by_text: bool) -> int:
    """How many tokens may go in the end: all that are longer than a symbol, for leaves free their parts."""
    del by_text
    return sum(len(base.vocabulary.symbols(unit)) > 1 for unit in base.vocabulary.units)


@given(seed=st.integers(0, 10**6), corpus=texts, probes=texts, share=st.floats(0, 1), by_text=st.booleans(),
       characters=st.booleans())  # fmt: skip
@each
def test_text_without_a_removed_token_keeps_its_encoding(
    seed: int, corpus: list[str], probes: list[str], share: float, by_text: bool, characters: bool
) -> None:
    base = random_base(random.Random(seed), characters)
    if by_text:
        base = base.with_encoder("lbpe")
    old = Tokenizer(base)
    counts = Counter(number for text in corpus for number in old.encode(text))
    most = removable(base, by_text)
    trimmed = trim(base, counts, Goal(to=base.vocabulary.size - round(share * most)), by_text)
    new, gone = Tokenizer(trimmed.definition), {number for number, _ in trimmed.removed}
    trimmed.definition.vocabulary.check("trimmed")
    assert sorted(trimmed.new_ids.values()) == list(range(base.vocabulary.size - len(gone)))
    for text in [*corpus, *probes]:
        ids = old.encode(text)
        if not gone & {*ids}:
            assert new.encode(text) == trimmed.map[ids].tolist()
        assert new.decode_bytes(new.encode(text)) == old.decode_bytes(ids)


def test_an_inner_token_changes_text_that_does_not_hold_it() -> None:
    """Why only leaves: `ab` is joined to `abc`; without it, text of `abc` alone would be cut anew."""
    tokenizer = Tokenizer.train_from_documents([*["abc"] * 3, "ab"], 258, pretokenizer="none")
    trimmed = trim(tokenizer.definition, Counter(), Goal(to=257))
    assert [tokenizer.token_bytes(number) for number, _ in trimmed.removed] == [b"abc"]
    by_text = trim(tokenizer.with_encoder("lbpe").definition, Counter({257: 5}), Goal(to=257), by_text=True)
    assert [tokenizer.token_bytes(number) for number, _ in by_text.removed] == [b"ab"]
    assert Tokenizer(by_text.definition).encode("abc") == [256]


def test_the_rarest_goes_first_and_leaves_its_count_to_its_parts() -> None:
    units = [*(bytes([byte]) for byte in range(256)), b"ab", b"abc", b"xy"]
    merges = [(97, 98, 256), (256, 99, 257), (120, 121, 258)]
    base = Definition(Vocabulary(units, merges, [(i,) for i in range(259)]), "none")
    counts = {256: 1, 257: 3, 258: 4}
    assert trim(base, counts, Goal(to=256)).removed == [(257, 3), (258, 4), (256, 4)]
    assert trim(base, counts, Goal(rarer=4)).removed == [(257, 3)]
    assert trim(base, counts, Goal(to=257, multiple=2)).removed == [(257, 3)]
    assert Goal(to=700, multiple=128).target(base) == 768
    kept = trim(base, counts, Goal(keep=frozenset([b"abc"])))
    assert kept.removed == [(258, 4)]  # `ab` makes `abc`
    with pytest.raises(UserError, match="256 ids are left: no other token may go"):
        trim(base, counts, Goal(to=100))


def test_added_tokens_stay_and_are_renumbered_with_what_names_them() -> None:
    tokenizer = Tokenizer.train_from_documents(["abcdefgh"] * 9, 262, special=["<s>", "</s>"], special_position="last")
    base = replace(tokenizer.definition, post_processor=template(["<s>"], ["</s>"], tokenizer.special_tokens))
    assert base.around == ([260], [261])
    trimmed = trim(base, Counter(), Goal(to=258))
    assert trimmed.definition.around == ([256], [257])
    assert trimmed.definition.vocabulary.added == special_tokens({"<s>": 256, "</s>": 257})
    assert trimmed.map[[256, 260, 261]].tolist() == [GONE, 256, 257]
    assert (trimmed.definition.bos, trimmed.definition.eos) == ("<s>", "</s>")


def test_scaffolds_keep_what_they_are_written_as() -> None:
    text = "the cat that sat at the mat with a hat, that fat cat " * 8
    tokenizer = Tokenizer.train_from_documents([text], 275, algorithm="scaffold", pretokenizer="gpt2")
    assert tokenizer.definition.vocabulary.scaffolds
    trimmed = trim(tokenizer.definition, Counter(tokenizer.encode(text)), Goal(rarer=10**6))
    new = Tokenizer(trimmed.definition)
    assert new.decode(new.encode(text)) == text
    trimmed.definition.vocabulary.check("trimmed")


def test_keep_list() -> None:
    base = Tokenizer.train_from_documents(["abc é abc é"] * 2, 270, special=["<s>"], pretokenizer="gpt2").definition
    assert read_keep(["abc\n", "ĠÃ©\n", "é\n", "<s>\n", "\n"], base, "keep") == {b"abc", " é".encode(), "é".encode()}
    with pytest.raises(UserError, match="'zzz' is no token of the tokenizer"):
        read_keep(["zzz"], base, "keep")
