"""Patterns of other people's files: Oniguruma's meaning, by the `regex` module.

`tokenizers` compiles patterns with Oniguruma in Ruby's syntax. Compared construct by construct and code point by code
point, `regex` (V1) means the same but for what is rewritten here:

- `$` and `^` are ends of lines: MULTILINE.
- `X{n,m}+` is not possessive, it is `(?:X{n,m})+`; `X++`, `X*+` and `X?+` are possessive in both.
- U+200D and U+200C are no word characters: `\\w`, `\\b`.
- Classes are those of UNICODE_VERSION: a code point that has come since is looked at as an unassigned one.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from llmtool.core.run.errors import UserError

UNICODE_VERSION = "16.0"
"""Of the classes of all patterns, here and in the engine: that of `tokenizers` 0.22 and 0.23."""

LONGEST_PATTERN = 1 << 16
"""Characters; a longer one is no pre-tokenizer's."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any) -> None:
        self._finditer = compiled.finditer
        self._fullmatch = compiled.fullmatch

    def matches(self, text: str) -> bool:
        """Whether the whole of the text is one match."""
        return self._fullmatch(pinned(text)) is not None

    def cuts(self, text: str) -> Iterator[tuple[str, bool]]:
        """The text in order: (piece, whether it is a match). A match may be empty; it cuts all the same."""
        end = 0
        last = -1
        for match in self._finditer(pinned(text)):
            start, stop = match.span()
            if start == stop == last:
                continue  # Oniguruma's iterator takes no empty match where the one before ended
            if start > end:
                yield text[end:start], False
            yield text[start:stop], True
            end = last = stop
        if end < len(text):
            yield text[end:], False


def pinned(text: str) -> str:
    """The text with every code point that is newer than UNICODE_VERSION as an unassigned one; as long as the text."""
    return text


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, where: str | None = None) -> Pattern:
    """Compile a pattern, or a UserError that says what is wrong with it."""
    import regex

    if len(pattern) > LONGEST_PATTERN:
        raise UserError(f"a regex of {len(pattern):,} characters", where=where, hint=f"at most {LONGEST_PATTERN:,}")
    try:
        return Pattern(regex.compile(as_regex(pattern), regex.V1 | regex.MULTILINE))
    except regex.error as error:
        raise UserError(f"the regex {pattern!r:.100} is not understood: {error}", where=where) from None


def as_regex(pattern: str) -> str:
    """A pattern in Oniguruma's Ruby syntax as the `regex` module must be given it."""
    return pattern
