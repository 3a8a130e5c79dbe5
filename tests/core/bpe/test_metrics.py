"""Figures by hand on tiny texts, their laws on any text."""

import argparse
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from llmtool.commands.sources import token_bytes
from llmtool.core.bpe import metrics
from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.metrics import LengthClass, Meter, measure, renyi_entropy
from llmtool.core.bpe.normalizers import NFC, Step
from llmtool.core.bpe.reachable import unreachable_tokens
from llmtool.core.bpe.vocabulary import BYTE_ORDER, Vocabulary, decode_text, encode_text
from llmtool.core.bpe.words import WORD, word_spans
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer
from tests.core.bpe.families import CHARACTER_PIPELINES, families


def tiny(*merges: tuple[bytes, bytes], special: tuple[str, ...] = (), normalizer: tuple[Step, ...] = ()) -> Tokenizer:
    """The bytes, and a token for each merge."""
    units = [bytes([byte]) for byte in BYTE_ORDER]
    triples = []
    for left, right in merges:
        units.append(left + right)
        triples.append((units.index(left), units.index(right), len(units) - 1))
    named = {text: len(units) + number for number, text in enumerate(special)}
    vocabulary = Vocabulary(units, triples, [(number,) for number in range(len(units))], special_tokens(named))
    return Tokenizer(Definition(vocabulary, "gpt2", normalizer=normalizer))


ABC = tiny((b"a", b"b"), (b"ab", b"c"))
LEARNED = Tokenizer.train_from_documents(
    [Path(argparse.__file__).read_bytes()[:20_000], "日本語 नमस्ते".encode() * 9],
    300,
    pretokenizer="llama3",
    algorithm="scaffold",
    special=("<|endoftext|>",),
)
DOCUMENTS = st.lists(
    st.text(st.sampled_from("abc 日本e\u0301न\n'x1"), max_size=20).map(str.encode) | st.binary(max_size=9), max_size=4
)


def test_by_hand() -> None:
    found = measure(ABC, [b"abcd ab"], rare=2)  # abc|d| |ab
    assert (found.bytes, found.tokens, found.bytes_per_token) == (7, 4, 7 / 4)
    assert (found.words, found.fertility, found.continued_words, found.unspaced_words) == (2, 1.5, 0.5, 0.0)
    assert (found.entropy, found.observed_vocabulary) == (2.0, 4)
    assert found.redundancy == pytest.approx(1 - 2 / math.log2(258))
    assert found.renyi_alpha == 2.5
    assert found.renyi_entropy == pytest.approx(2)
    assert found.renyi_efficiency_observed == pytest.approx(1)
    assert found.renyi_efficiency_nominal == pytest.approx(2 / math.log2(258))
    assert (found.zero_frequency, found.zero_frequency_bytes, found.rare_threshold, found.rare_tokens) == (0, 254, 2, 2)
    assert found.mean_frequency == [LengthClass(1, 256, 2 / 256), LengthClass(2, 1, 1.0), LengthClass(3, 1, 1.0)]
    assert found.encode_mb_per_s
    assert found.encode_mb_per_s > 0
    assert (found.normalized_sequence_length, found.parity) == (None, None)
    assert found.to_json()["mean_frequency"][1] == {"length": 2, "tokens": 1, "mean_frequency": 1.0}


def test_a_space_before_a_word_and_punctuation_after_it_are_no_part_of_it() -> None:
    spaced = tiny((b" ", b"a"), (b" a", b"b"))
    found = measure(spaced, [b" ab ab, ab!?"])  # " ab"| ab|,| ab|!|?
    assert (found.tokens, found.words, found.fertility, found.continued_words) == (6, 3, 1.0, 0.0)


def test_a_word_in_three_tokens_and_one_character_in_two() -> None:
    found = measure(ABC, ["abcdab é".encode()])  # abc|d|ab| |\xc3|\xa9
    assert (found.words, found.fertility, found.continued_words) == (2, 2.5, 1.0)


def test_scripts_without_spaces_are_told() -> None:
    found = measure(ABC, ["日本 ab a".encode()])
    assert (found.words, found.unspaced_words, found.fertility) == (4, 0.5, (3 + 3 + 1 + 1) / 4)


def test_rare_and_unused_tokens_are_the_learned_ones() -> None:
    found = measure(tiny((b"a", b"b"), (b"c", b"d"), (b"x", b"y"), special=("<|eot|>",)), [b"abab cd"], rare=2)
    assert (found.zero_frequency, found.rare_tokens, found.zero_frequency_bytes) == (1, 2, 255)
    assert found.redundancy == pytest.approx(1 - 1.5 / math.log2(260))  # special tokens are part of |V|
    assert sum(entry.tokens for entry in found.mean_frequency) == 259  # plain text never yields them


def test_normalized_text_is_what_words_and_tokens_refer_to() -> None:
    found = measure(tiny(normalizer=(NFC,)), ["e\u0301e\u0301".encode()])
    assert (found.bytes, found.tokens, found.words, found.fertility) == (6, 4, 1, 4.0)


def test_words_of_the_text_as_given_are_not_those_of_the_normalized_text() -> None:
    documents = ["ab e\u0301 e\u0301".encode()]
    tally, _ = Meter(tiny((b"a", b"b"), normalizer=(NFC,)), 1).count(documents, word_spans(documents))
    assert (tally.words, tally.word_tokens) == (3, 1 + 2 + 2)


def test_shannon_and_renyi_are_not_mixed_up() -> None:
    found = measure(ABC, [b"ab ab x"], alpha=2.0)  # ab| |ab| |x
    shannon, renyi = 2 * 0.4 * math.log2(5 / 2) + 0.2 * math.log2(5), -math.log2(0.16 + 0.16 + 0.04)
    assert found.redundancy == pytest.approx(1 - shannon / math.log2(258))
    assert found.renyi_efficiency_nominal == pytest.approx(renyi / math.log2(258))
    assert found.renyi_efficiency_observed == pytest.approx(renyi / math.log2(3))


def test_no_text_has_no_ratios() -> None:
    found = measure(ABC, [b"", b""])
    assert (found.tokens, found.zero_frequency) == (0, 2)
    assert (found.bytes_per_token, found.fertility, found.entropy, found.redundancy) == (None,) * 4


def test_one_kind_of_token_has_no_entropy() -> None:
    found = measure(ABC, [b"ababab"])
    assert (found.entropy, found.renyi_entropy, found.redundancy) == (0.0, 0.0, 1.0)
    assert found.renyi_efficiency_observed is None


def test_renyi_of_the_published_tool() -> None:
    counts = np.array([3, 0, 2, 1, 1])  # "pick @@ed pick @@l @@ed pick @@les", tokenization-scorer's README
    efficiency = (renyi_entropy(counts, 3.0) or 0) / math.log2(4)
    assert efficiency == pytest.approx(0.8031528501359657, abs=1e-12)


def test_renyi_by_hand() -> None:
    counts = np.array([2, 1, 1])
    assert renyi_entropy(counts, 0.0) == pytest.approx(math.log2(3))
    assert renyi_entropy(counts, 1.0) == pytest.approx(1.5)
    assert renyi_entropy(counts, 2.0) == pytest.approx(-math.log2(1 / 4 + 1 / 16 + 1 / 16))
    assert renyi_entropy(counts, 5000.0) == pytest.approx(1.0, abs=1e-3)  # towards -log2 of the largest p


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any),
    st.floats(0, 50),
    st.floats(0, 50),
)
@example([1, 1], 1.0, 1 + 1e-8)
def test_entropy_bounds(values: list[int], alpha: float, beta: float) -> None:
    counts = np.array(values)
    low, high = sorted((alpha, beta))
    most = math.log2(np.count_nonzero(counts))
    first, second = renyi_entropy(counts, low), renyi_entropy(counts, high)
    assert first is not None
    assert second is not None
    assert -1e-6 <= second <= first + 1e-6 <= most + 2e-6  # H falls with the order


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_no_order_of_an_entropy(alpha: float) -> None:
    with pytest.raises(UserError, match="Rényi order"):
        measure(ABC, [b"ab"], alpha=alpha)


@pytest.mark.parametrize("tokenizer", [ABC, LEARNED, LEARNED.with_encoder("lbpe")], ids=["abc", "scaffold", "lbpe"])
@given(documents=DOCUMENTS)
@example(documents=[b"ab", b"c"])
@example(documents=["日本".encode()[:4], "本日".encode()[2:]])
def test_conservation_and_words_against_a_literal_count(tokenizer: Tokenizer, documents: list[bytes]) -> None:
    tally, lengths = Meter(tokenizer, 1).count(documents)
    ids = [tokenizer.encode(document) for document in documents]
    assert lengths.tolist() == [len(each) for each in ids]
    assert tally.bytes == sum(int(n) * len(tokenizer.token_bytes(i)) for i, n in enumerate(tally.counts) if n)
    assert {i: n for i, n in enumerate(tally.counts.tolist()) if n} == Counter(chain.from_iterable(ids))
    spread = [
        n for document, own in zip(documents, ids, strict=True) for n in tokens_of_words(tokenizer, document, own)
    ]
    assert (tally.words, tally.word_tokens) == (len(spread), sum(spread))
    assert tally.continued == sum(n > 1 for n in spread)


def tokens_of_words(tokenizer: Tokenizer, document: bytes, ids: list[int]) -> list[int]:
    text, ranges = decode_text(document), tokenizer.offsets(ids)
    found = []
    for match in regex.finditer(WORD, text):
        start = len(encode_text(text[: match.start()]))
        end = start + len(encode_text(match.group()))
        found.append(sum(low < end and high > start for low, high in ranges))
    return found


@given(DOCUMENTS, DOCUMENTS)
def test_tallies_add_up(first: list[bytes], second: list[bytes]) -> None:
    meter = Meter(LEARNED, 1)
    both, apart = meter.count(first + second)[0], meter.count(first)[0] + meter.count(second)[0]
    assert both.counts.tolist() == apart.counts.tolist()
    for name in ("bytes", "words", "word_tokens", "continued", "unspaced"):
        assert getattr(both, name) == getattr(apart, name)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [line + b"\n" for line in Path(argparse.__file__).read_bytes()[:9_000].split(b"\n")]
    whole = measure(LEARNED, iter(documents))
    monkeypatch.setattr(metrics, "BATCH_BYTES", 500)
    parts = measure(LEARNED, iter(documents))
    assert replace(whole, encode_mb_per_s=None) == replace(parts, encode_mb_per_s=None)
    assert whole.tokens == sum(len(LEARNED.encode(document)) for document in documents)


def unreachable(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.token_bytes(number) for number in unreachable_tokens(tokenizer)]


def test_unreachable_tokens() -> None:
    assert unreachable(ABC) == []
    assert unreachable(tiny((b"a", b"b"), (b"b", b"c"), (b"a", b"bc"))) == [b"abc"]  # ab comes first
    assert unreachable(tiny((b"a", b" "))) == [b"a "]  # the pre-tokenizer cuts between
    assert unreachable(tiny((b"a", b"b"), special=("ab", "<|x|>"))) == []
    assert unreachable(LEARNED) == []
    assert unreachable(LEARNED.with_encoder("lbpe")) == []


@pytest.mark.parametrize("family", [*CHARACTER_PIPELINES, "RoBERTa"])
def test_what_a_text_yields_is_reachable(family: str, sources: list[bytes]) -> None:
    """A space that the tokenizer itself puts before a text does not spoil the test of a token."""
    texts = [source.decode("utf-8", "replace")[:20_000] for source in sources[:20]]
    tokenizer = Tokenizer(read_huggingface(dict(families(texts))[family], Path("x.json")))
    dead = set(unreachable_tokens(tokenizer))
    met = {number for text in texts for number in tokenizer.encode(text)}
    assert not dead & met
    assert len(dead) < 0.1 * len(tokenizer.definition.vocabulary.id_of)
    counts = np.bincount(list(dead), minlength=tokenizer.vocab_size)
    assert unreachable_tokens(tokenizer, counts) == []  # as a text has shown


def test_unreachable_under_nfc() -> None:
    angstrom = "\u212b".encode()
    merges = ((angstrom[:1], angstrom[1:2]), (angstrom[:2], angstrom[2:]))
    assert unreachable(tiny(*merges)) == []
    assert unreachable(tiny(*merges, normalizer=(NFC,))) == [angstrom]  # it becomes U+00C5
    composed = "\u00c5".encode()
    both = tiny(*merges, (composed[:1], composed[1:]), normalizer=(NFC,))
    assert unreachable(both) == [angstrom]  # one token, but another one


def test_fragments_of_characters_are_judged_as_pieces() -> None:
    first, second, third = b"\xe4", b"\xbd", b"\xa0"
    assert unreachable(tiny((b"a", first))) == []  # met inside "a你", cut apart alone
    wrong = tiny((first, second), (second, third), (b"a", first), (first, second + third))
    assert unreachable(wrong) == [first + second + third]
    fragment = tiny((first, second), (second, first), (first, second + first))
    assert unreachable(fragment) == [first + second + first]


TEXT = "The cat's naïve café — 42 dogs, don't!\n\nfoo_bar(x)  日本語のテキスト\tтри слова\U0001f600"
PROSE = [TEXT, " leading and trailing ", "one", "", *Path(argparse.__file__).read_text().split("\n\n")[:12]]


@pytest.mark.parametrize("family", [*CHARACTER_PIPELINES, "RoBERTa", "Qwen2, Qwen2.5, Qwen3"])
def test_words_are_spread_over_the_tokens_that_stock_offsets_show(family: str) -> None:
    """Lengths of spellings (<0x0A> for a line's end) and words of a text without the space in front drifted apart."""
    facts = dict(families(PROSE))[family]
    stock = tokenizers.Tokenizer.from_str(json.dumps(facts))
    spread = []
    for text in PROSE:
        encoded = stock.encode(text, add_special_tokens=False)
        # The mark put before a text has the offsets of its first character, and is no part of it.
        offsets = [at for token, at in zip(encoded.tokens, encoded.offsets, strict=True) if token != "▁"]
        for word in regex.finditer(WORD, text):
            spread.append(sum(start < word.end() and end > word.start() for start, end in offsets))
    found = measure(Tokenizer(read_huggingface(facts, Path("tokenizer.json"))), [text.encode() for text in PROSE])
    assert found.words == len(spread)
    assert found.fertility == pytest.approx(np.mean(spread))
    assert found.continued_words == pytest.approx(np.mean(np.array(spread) > 1))


@pytest.mark.parametrize("family", [*CHARACTER_PIPELINES, "RoBERTa", "Qwen2, Qwen2.5, Qwen3"])
def test_ids_stand_for_the_bytes_of_the_text(family: str) -> None:
    """Bits a byte were a quarter too low for all of SentencePiece's: a mark counted for 3 bytes, <0x0A> for 6."""
    tokenizer = Tokenizer(read_huggingface(dict(families(PROSE))[family], Path("tokenizer.json")))
    sizes = token_bytes(tokenizer, tokenizer.definition.vocabulary.id_limit)
    assert sizes is not None
    for text in PROSE:
        more = int(sizes[tokenizer.encode(text)].sum()) - len(text.encode())
        assert more in (0, 1)  # a space that the tokenizer puts in front


def test_an_alphabet_of_bytes_needs_no_decoder() -> None:
    """A tokenizer.json of bytes without a decoder spells a space as two: the text's bytes are those of the alphabet."""
    facts = {**dict(families(PROSE))["GPT-2, OPT"], "decoder": None}
    tokenizer = Tokenizer(read_huggingface(facts, Path("tokenizer.json")))
    sizes = token_bytes(tokenizer, tokenizer.definition.vocabulary.id_limit)
    assert sizes is not None
    assert [int(sizes[tokenizer.encode(text)].sum()) for text in PROSE] == [len(text.encode()) for text in PROSE]
    documents = [text.encode() for text in PROSE]
    found, decoded = (
        measure(each, documents)
        for each in (
            tokenizer,
            Tokenizer(read_huggingface(dict(families(PROSE))["GPT-2, OPT"], Path("tokenizer.json"))),
        )
    )
    assert (found.fertility, found.mean_frequency) == (decoded.fertility, decoded.mean_frequency)
