"""Patterns of files mean what they mean inside `tokenizers`: construct by construct, cut by cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from llmtool.core.bpe.pattern import compile_pattern
from llmtool.core.run.errors import UserError

PATTERNS = [
    r"\p{N}{1,3}+", r"a{2}?", r"a{1,2}?b", r"a?+a", r"a*+", r"(?:ab){2,}", r"\w+", r"\W+", r"\bfo+\b", r"\B.", r"\h+",
    r"^a|b$", r"\Aa", r"a\z", r"a\Z", r"(?i:ſ|k)", r"(?m:a.b)", r"[a-c&&[^b]]+", "[~~a]+", r"[[:alpha:]]+", r"[\w&&\d]",
    r"a(?!b)", r"(?<=a)b", r"(?<!a)b", r"(?>a+)b", r"\p{Han}+", r"\P{L}+", r"[^\p{L}\p{N}]+", r"\s+(?!\S)|\s+", r"x*",
    r"\x{4e00}", "[一-龥]+", r"[]a]+", r"\R", r"\X", r"a|", r"(?#note)a", r"\d{1,3}(?=(?:\d{3})*\b)",
    "[\u0800-\u4e00]+", r"\p{Ll}+|\p{Lo}+", r"\P{N}+", r"\P{L}+|\p{Cn}+", r"[[:punct:]]", r"[^\p{M}\S]+", r"\D+",
    r"(?i)\p{Lu}+", r"(?i)[\p{Lu}]+", r"(?i)\p{Ll}a",
]  # fmt: skip
TEXTS = st.text(
    "aabbfo0123²½٣kKſßsS \t\n\r\u00a0\u200c\u200d_-]漢字é\u0301\U00012550Ωx\u0295\u1acf\u20c4\U000323b0ซA", max_size=24
)
"""Among them code points that came after the tables of both, or moved: ranges name them, classes must not."""


def theirs(pattern: str, text: str) -> list[str]:
    return [piece for piece, _ in Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts=st.lists(TEXTS, min_size=8, max_size=8))
@settings(max_examples=6, deadline=None)
def test_cuts_as_theirs(pattern: str, texts: list[str]) -> None:
    for text in [*texts, "a\n", "foo foo\nab", "aab12345 67", "aaab\nab"]:
        assert [piece for piece, _ in compile_pattern(pattern).cuts(text) if piece] == theirs(pattern, text), text


@pytest.mark.parametrize(
    "pattern", ["(", ")", "a)b", "(?:a", "[a", "\\", "*a", "(?<n", r"\Ga", "a{2,1}", "(?~a)", "(?i:\u00df)", "(?i:st)"]
)
def test_refused_by_name(pattern: str) -> None:
    with pytest.raises(UserError, match="is not understood"):
        compile_pattern(pattern)
