"""LBPE: every path takes the longest token first, as the definition says, for each length unit and tie rule."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.vocabulary import BYTE_ORDER, Vocabulary
from llmtool.methods.lbpe import reference
from llmtool.methods.lbpe.reference import encode_piece
from tests.core.bpe.strategies import piece

extra_tokens = st.lists(piece.filter(lambda token: len(token) > 1), unique=True, max_size=12)
choices = [(length, ties) for length in ("bytes", "characters") for ties in ("leftmost", "rank")]


def tokenizer_of(tokens: list[bytes], length: str = "bytes", ties: str = "leftmost") -> Tokenizer:
    """A tokenizer with the bytes and these tokens; the pre-tokenizer cuts nothing."""
    units = [*(bytes([byte]) for byte in BYTE_ORDER), *tokens]
    vocabulary = Vocabulary(units, [], [(number,) for number in range(len(units))])
    return Tokenizer(Definition(vocabulary, "none", encoder="lbpe", length=length, ties=ties))


def cut(tokens: list[bytes], text: bytes, length: str = "bytes", ties: str = "leftmost") -> list[bytes]:
    tokenizer = tokenizer_of(tokens, length, ties)
    return [tokenizer.token_bytes(token) for token in tokenizer.encode(text)]


def test_the_longest_token_goes_first_wherever_it_stands(each_engine: str) -> None:
    assert cut([b"ab", b"bcd", b"cde"], b"abcde") == [b"a", b"bcd", b"e"]
    assert cut([b"ab", b"cdef"], b"abcdef") == [b"ab", b"cdef"]
    # left-to-right longest match would take "abc" and lose "cdef"
    assert cut([b"abc", b"cdef"], b"abcdef") == [b"a", b"b", b"cdef"]


def test_the_leftmost_of_equals_or_the_one_of_lower_rank(each_engine: str) -> None:
    tokens = [b"bc", b"ab"]
    assert cut(tokens, b"abc") == [b"ab", b"c"]
    assert cut(tokens, b"abc", ties="rank") == [b"a", b"bc"]


def test_length_in_characters_counts_code_points(each_engine: str) -> None:
    tokens = ["漢字".encode(), b"abc", "字abc".encode()]
    text = "漢字abc".encode()
    assert cut(tokens[:2], text) == ["漢字".encode(), b"abc"]
    overlapping = ["漢字".encode(), "字ab".encode()]
    assert cut(overlapping, text, "bytes")[0] == "漢字".encode()
    assert cut(overlapping, text, "characters")[-2:] == ["字ab".encode(), b"c"]


@pytest.mark.parametrize("length, ties", choices)
@given(tokens=extra_tokens, text=st.lists(piece, max_size=4).map(b"".join))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fast_equals_the_definition(each_engine: str, length: str, ties: str, tokens: list[bytes], text: bytes) -> None:
    tokenizer = tokenizer_of(tokens, length, ties)
    assert tokenizer.encode(text) == encode_piece(text, tokenizer.definition.vocabulary.id_of, length, ties)


@pytest.mark.parametrize("length, ties", choices)
def test_long_pieces(each_engine: str, length: str, ties: str) -> None:
    """Past 64 bytes the engine takes another path."""
    tokens = [b"ab" * n for n in (1, 2, 5, 20)] + [b"ba", b"aab", "é".encode() * 3, b"b" * 70]
    text = b"ab" * 90 + b"a" + "é".encode() * 50 + b"b" * 150 + b"aabab" * 9
    tokenizer = tokenizer_of(tokens, length, ties)
    assert tokenizer.encode(text) == encode_piece(text, tokenizer.definition.vocabulary.id_of, length, ties)


@pytest.mark.parametrize("algorithm", ["bpe", "scaffold"])
def test_any_vocabulary_can_be_switched(each_engine: str, algorithm: str, sources: list[bytes]) -> None:
    text = b"".join(sources[:6])
    merged = Tokenizer.train_from_documents([text], 900, algorithm=algorithm)
    switched = merged.with_encoder("lbpe")
    assert switched.decode_bytes(switched.encode(text)) == text
    assert switched.encode(text) != merged.encode(text)
    ids = switched.definition.vocabulary.id_of
    from llmtool.core.bpe.pretokenizers import split

    for word in list(dict.fromkeys(split("llama3", text)))[:600]:
        if len(word) <= 24:
            assert switched.encode(word) == reference.encode_piece(word, ids)
