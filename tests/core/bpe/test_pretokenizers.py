"""Patterns: spellings met in the wild cut the same, and every text is covered."""

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool.core.bpe.pretokenizers import PRETOKENIZERS, find_pretokenizer, name_of_pattern, split
from llmtool.core.run.errors import UserError
from tests.core.bpe.strategies import any_bytes

tricky = st.text("aZé1٣ \t\n\r\u00a0'sſtTrReEvVmMlLdD.,!/漢\u0301\U0001f600\u200b", max_size=24)


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(data=any_bytes)
@settings(max_examples=100, deadline=None)
def test_pieces_cover_the_text(name: str, data: bytes) -> None:
    pieces = split(name, data)
    assert b"".join(pieces) == data
    assert all(pieces)


@given(text=tricky)
@settings(max_examples=500, deadline=None)
def test_aliases_cut_the_same(text: str) -> None:
    for entry in PRETOKENIZERS.values():
        for alias in entry.aliases:
            # In these patterns $ means the end of the text, as in the engines they were written for.
            theirs = regex.findall(alias.replace("$", r"\Z"), text)
            assert [piece.encode() for piece in theirs] == split(entry.name, text.encode())


def test_names() -> None:
    assert name_of_pattern(PRETOKENIZERS["qwen2"].pattern) == "qwen2"
    assert name_of_pattern(PRETOKENIZERS["gpt2"].aliases[0]) == "gpt2"
    assert name_of_pattern(PRETOKENIZERS["llama3"].pattern) in ("cl100k", "llama3")
    assert name_of_pattern("") is None
    assert name_of_pattern(r"\w+") is None
    with pytest.raises(UserError, match="did you mean 'o200k'"):
        find_pretokenizer("o200")


def test_invalid_bytes_are_one_code_point_each_of_no_class() -> None:
    assert split("gpt2", b"a\xff\xfeb") == [b"a", b"\xff\xfe", b"b"]
    assert split("gpt2", b"a \xff1") == [b"a", b" \xff", b"1"]
    assert split("llama3", b"\xe6\xbc") == [b"\xe6\xbc"]
    assert split("llama3", b"\xffabc") == [b"\xffabc"]
    assert split("qwen2", b"1\xff2") == [b"1", b"\xff", b"2"]
