"""The definition of a word, and word_spans against it on any text."""

import keyword
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from llmtool.core.bpe import words
from llmtool.core.bpe.vocabulary import decode_text, encode_text

ALPHABET = st.sampled_from("aZ é9_' \n\r.e\u0301\u0300नमस्ते日本ーが゙カไทย་བོདကမ៦한국\U00020000\U0001f600\udc80\udcff\0")
TEXTS = st.text(ALPHABET, max_size=12).map(encode_text)


def by_definition(documents: list[bytes]) -> tuple[list[bytes], int]:
    texts = [match.group() for text in documents for match in regex.finditer(words.WORD, decode_text(text))]
    unspaced = sum(regex.match(words._UNSPACED_LETTER, text, regex.V1) is not None for text in texts)
    return [encode_text(text) for text in texts], unspaced


def by_spans(documents: list[bytes]) -> tuple[list[bytes], int]:
    data, found = b"".join(documents), words.word_spans(documents)
    return [data[a:b] for a, b in zip(found.starts.tolist(), found.ends.tolist(), strict=True)], found.unspaced


@pytest.mark.parametrize(
    "text, expected",
    [
        ("don't snake_case x2", "don t snake case x2"),
        ("e\u0301a \u0301x", "e\u0301a x"),
        ("日本語text", "日 本 語 text"),
        ("コーヒー", "コ ー ヒ ー"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("ที่นี่", "ที่ นี่"),
        ("한국어 문장", "한국어 문장"),
        ("...\n\t", ""),
    ],
)
def test_words_of_many_scripts(text: str, expected: str) -> None:
    found, _ = by_spans([encode_text(text)])
    assert [word.decode() for word in found] == expected.split()


@given(st.lists(TEXTS | st.binary(max_size=8), max_size=5))
@example([b"ab", b"cd"])
@example([b"a\xe6\x97", b"\xa5b", b"\xff"])
@example([b"a", "\u0301b".encode()])
def test_spans_equal_the_definition(documents: list[bytes]) -> None:
    assert by_spans(documents) == by_definition(documents)


def test_every_code_point_of_the_first_two_planes() -> None:
    text = encode_text("".join(f"a{chr(code)}" for code in range(0x20000) if not 0xD800 <= code < 0xE000))
    assert by_spans([text]) == by_definition([text])


def test_real_text_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_GROUP_BYTES", 100)
    documents = [line + b"\n" for line in Path(keyword.__file__).read_bytes().split(b"\n")]
    assert by_spans(documents) == by_definition(documents)


def test_no_text() -> None:
    for documents in ([], [b""], [b"", b""]):
        assert by_spans(documents) == ([], 0)
    assert words.word_spans([]).starts.dtype == np.int64


def test_batches_hold_at_least_the_size() -> None:
    assert list(words.batches([b"aa", b"b", b"", b"ccc", b"d"], 3, len)) == [[b"aa", b"b"], [b"", b"ccc"], [b"d"]]
    assert list(words.batches([b"abc"], 3, len)) == [[b"abc"]]
    assert list(words.batches([], 3, len)) == []
