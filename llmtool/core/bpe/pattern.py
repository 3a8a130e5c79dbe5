"""Patterns of other people's files: Oniguruma's meaning, by the `regex` module.

`tokenizers` compiles patterns with Oniguruma in Ruby's syntax. The `regex` module (V1, MULTILINE) means the same but
for what is rewritten here:

- `X{n,m}+` is not possessive, it is `(?:X{n,m})+`, and `X{n}?` is `(?:X{n})?`; `X++`, `X*+` and `X?+` are possessive.
- `\\w` counts superscript digits and vulgar fractions of Latin-1, but not U+200C and U+200D; `\\b` follows it.
- `\\h` is a hexadecimal digit; `\\Z` may stand before a last newline; `(?m:` lets a dot match a newline.
- Under (?i) a property by itself, as `\\p{Lu}`, keeps its case; inside a class it does not.
- Inside a class `--`, `||` and `~~` are two characters, no operators.
- Classes are those of UNICODE_VERSION: a code point that has come since is in those that an unassigned one is in, and
  one that has moved since in those that it was in. A range or a letter that a pattern spells means what it spells.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.unicode_data import CHANGED, UNASSIGNED
from llmtool.core.bpe.unicode_data import UNICODE_VERSION as UNICODE_VERSION
from llmtool.core.run.errors import UserError

LONGEST_PATTERN = 1 << 20
"""Characters; LBPE's form of a vocabulary of 128K tokens holds less in one pattern."""

_WORD = r"[\w\u00b2\u00b3\u00b9\u00bc-\u00be--[\u200c\u200d]]"
_REWRITTEN = {
    "w": _WORD,
    "W": f"[^{_WORD}]",
    "b": f"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))",
    "B": f"(?:(?<={_WORD})(?={_WORD})|(?<!{_WORD})(?!{_WORD}))",
    "h": "[0-9a-fA-F]",
    "H": "[^0-9a-fA-F]",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
}
"""What a backslash and a letter become; inside a class only those that are classes."""


_FOLDS = "\u00df|ss|st|ff|fi|fl|[\u0149\u01f0\u0390\u03b0\u0587\u1e96-\u1e9e\ufb00-\ufb17]"
"""What (?i) folds to or from several characters; the two engines do so in different places."""


class Pattern:
    """A compiled pattern; `exact` compiles the form, slower, for text with code points that came or moved later.

    Graphemes (\\X) have no form that could be rewritten: for them the text is.
    """

    def __init__(self, compiled: Any, exact: Callable[[], Any] | None = None, graphemes: bool = False) -> None:
        self._compiled = compiled
        self._exact = exact
        self._graphemes = graphemes

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere."""
        return any(True for _ in self._matches(text))

    def cuts(self, text: str) -> Iterator[tuple[str, bool]]:
        """The text in order: (piece, whether it is a match). A match may be empty; it cuts all the same."""
        end = 0
        last = -1
        for match in self._matches(text):
            start, stop = match.span()
            if start == stop == last:
                continue  # Oniguruma's iterator takes no empty match where the one before ended
            if start > end:
                yield text[end:start], False
            yield text[start:stop], True
            end = last = stop
        if end < len(text):
            yield text[end:], False

    def _matches(self, text: str) -> Iterator[Any]:
        if self._exact is not None and not text.isascii() and _newer().search(text):
            self._compiled, self._exact = self._exact(), None
        found: Iterator[Any] = self._compiled.finditer(pinned(text) if self._graphemes else text)
        return found


def pinned(text: str) -> str:
    """The text as the classes of UNICODE_VERSION see it, as long as it was."""
    if text.isascii() or not _newer().search(text):
        return text
    return text.translate(_STAND_INS)


class _StandIns(dict[int, int]):
    """What a later code point is looked at as: a noncharacter, which stays unassigned; filled as it is asked."""

    def __missing__(self, code: int) -> int:
        self[code] = 0xFFFF if _newer().match(chr(code)) else code
        return self[code]


_STAND_INS = _StandIns({code: 0x250 for code, category in CHANGED.items() if category == "Ll"})


@lru_cache
def _newer() -> Any:
    import regex

    # What the installed regex holds for unassigned too stays itself: a pattern may name it in a range.
    return regex.compile(rf"[[{character_class(UNASSIGNED)}]--\p{{Cn}}]|[{''.join(map(chr, CHANGED))}]", regex.V1)


@lru_cache
def as_then(named: str) -> str:
    """A class of the installed `regex` as UNICODE_VERSION has it: what came since is where U+FFFF is, never assigned.

    A code point that has moved is where another letter of the class that it had is.
    """
    import regex

    moved = [(f"\\U{code:08x}", chr(_STAND_INS[code])) for code in CHANGED]
    for inside, stand_in in [(rf"[{character_class(UNASSIGNED)}]--\p{{Cn}}", "\uffff"), *moved]:
        operator = "||" if regex.fullmatch(named, stand_in, regex.V1) else "--"
        named = f"[{named}{operator}[{inside}]]"
    return named


def is_later(character: str) -> bool:
    """Whether a character has come since UNICODE_VERSION."""
    return of_ranges(UNASSIGNED).matches(character)


@lru_cache(maxsize=8)
def of_ranges(ranges: str) -> Pattern:
    """One code point in ranges of unicode_data.py."""
    return of_code_points(f"[{character_class(ranges)}]")


def character_class(ranges: str) -> str:
    """Ranges of unicode_data.py as the inside of a class."""
    ends = (span.partition("-") for span in ranges.split())
    return "".join(f"\\U{int(first, 16):08x}-\\U{int(last or first, 16):08x}" for first, _, last in ends)


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, where: str | None = None) -> Pattern:
    """Compile a pattern, or a UserError that says what is wrong with it."""
    import regex

    if len(pattern) > LONGEST_PATTERN:
        raise UserError(f"a regex of {len(pattern):,} characters", where=where, hint=f"at most {LONGEST_PATTERN:,}")
    flags = regex.V1 | regex.MULTILINE
    try:
        return Pattern(
            regex.compile(as_regex(pattern), flags),
            lambda: regex.compile(as_regex(pattern, exact=True), flags),
            graphemes=r"\X" in pattern,
        )
    except (regex.error, IndexError) as error:
        raise UserError(f"the regex {pattern!r:.100} is not understood: {error}", where=where) from None


def as_regex(pattern: str, exact: bool = False) -> str:
    """A pattern in Oniguruma's Ruby syntax as the `regex` module must be given it.

    `exact`: each class without, or with, what came or moved after UNICODE_VERSION.
    """
    literal = re.sub(r"\\.|\[[^\]]*\]", "\0", pattern)
    if ignores_case(pattern) and re.search(_FOLDS, literal, re.IGNORECASE):
        raise IndexError("under (?i) one letter that folds to several (\u00df to ss) is not implemented")
    rewriter = _Rewriter(pattern, exact)
    rewritten = "".join(rewriter.sequence())
    if rewriter.rest:
        raise IndexError("a parenthesis closes no group")
    return rewritten


def ignores_case(pattern: str) -> bool:
    """Whether (?i) stands anywhere in a pattern."""
    return re.search(r"\(\?[a-z]*i", pattern) is not None


class _Rewriter:
    """Goes through a pattern atom by atom, so that a quantifier's atom can be put in a group."""

    def __init__(self, pattern: str, exact: bool) -> None:
        self._pattern = pattern
        self._at = 0
        self._named = as_then if exact else str
        self._folds = ignores_case(pattern)

    @property
    def rest(self) -> str:
        """What has not been read yet."""
        return self._pattern[self._at :]

    def sequence(self) -> list[str]:
        """The atoms up to the end of the group or of the pattern."""
        atoms: list[str] = []
        while self._at < len(self._pattern) and self._pattern[self._at] != ")":
            quantifier = self._quantifier() if atoms and not atoms[-1].endswith("|") else None
            if quantifier is None:
                atoms.append(self._atom())
            elif quantifier[0] == "{" and (quantifier[-1] == "+" or (quantifier[-1] == "?" and "," not in quantifier)):
                atoms[-1] = f"(?:{atoms[-1]}{quantifier[:-1]}){quantifier[-1]}"
            else:
                atoms[-1] += quantifier
        return atoms

    def _quantifier(self) -> str | None:
        """A quantifier with what follows it. `{n}?` and `{n,m}+` are two of them, one after the other."""
        found = re.compile(r"[?*+][?+]?|\{(?:\d+|\d*,\d+|\d+,)\}").match(self._pattern, self._at)
        if found is None or found[0] == "{,}":
            return None
        self._at = found.end()
        following = self._pattern[self._at : self._at + 1]
        if found[0][0] == "{" and following in ("+", "?"):
            self._at += 1
            return found[0] + following
        return found[0]

    def _atom(self) -> str:
        pattern, at = self._pattern, self._at
        character = pattern[at]
        if character == "\\":
            return self._escape(in_class=False)
        if character == "[":
            return self._class()
        if character == "(":
            return self._group()
        self._at += 1
        return character

    def _escape(self, in_class: bool) -> str:
        pattern, at = self._pattern, self._at
        letter = pattern[at + 1]
        if letter in "pP" and pattern[at + 2 : at + 3] == "{":
            end = pattern.index("}", at) if "}" in pattern[at:] else len(pattern)
            self._at = end + 1
            named = self._named(pattern[at : self._at])
            return named if in_class or not self._folds else f"(?-i:{named})"
        self._at += 2
        if letter == "x" and pattern[at + 2 : at + 3] == "{":
            end = pattern.index("}", at) if "}" in pattern[at:] else len(pattern)
            self._at = end + 1
            return f"\\U{int(pattern[at + 3 : end] or '0', 16):08x}"
        if letter in _REWRITTEN and not (in_class and letter in "bBzZ"):
            return _REWRITTEN[letter].replace(_WORD, self._named(_WORD))
        if letter in "GK" and not in_class:
            raise IndexError(f"\\{letter} is not implemented")
        return self._named(pattern[at : self._at]) if letter in "dDsS" else pattern[at : self._at]

    def _class(self) -> str:
        """A class with the classes in it; `]` first is a character."""
        pattern = self._pattern
        out = ["["]
        self._at += 1
        if pattern[self._at : self._at + 1] == "^":
            out.append("^")
            self._at += 1
        first = True
        while first or pattern[self._at] != "]":
            character = pattern[self._at]
            if pattern.startswith("[:", self._at) and ":]" in pattern[self._at :]:
                end = pattern.index(":]", self._at) + 2
                out.append(self._named(f"[{pattern[self._at : end]}]"))
                self._at = end
            elif character == "[":
                out.append(self._class())
            elif character == "\\":
                out.append(self._escape(in_class=True))
            elif pattern[self._at : self._at + 2] in ("--", "||", "~~") or (first and character == "]"):
                out.append("\\" + character)
                self._at += 1
            else:
                out.append(character)
                self._at += 1
            first = False
        self._at += 1
        return "".join([*out, "]"])

    def _group(self) -> str:
        """A group with its opening; Ruby's (?m is what others write (?s."""
        opening = re.compile(r"\((?:\?(?:#[^)]*|<?[=!]|[:>|]|<\w+>|[imx]*(?:-[imx]*)?[:)]))?").match(
            self._pattern, self._at
        )
        head = opening[0] if opening else "("
        if head == "(" and self._pattern[self._at : self._at + 2] == "(?":
            raise IndexError(f"{self._pattern[self._at : self._at + 4]} is not implemented")
        self._at += len(head)
        if head.startswith("(?#"):
            self._at += 1
            return ""
        if re.fullmatch(r"\(\?[imx-]*[:)]", head):
            head = head.replace("m", "s")
        if head.endswith(")"):
            return head
        inside = "".join(self.sequence())
        if not self.rest:
            raise IndexError("a parenthesis opens a group that does not end")
        self._at += 1
        return f"{head}{inside})"


@lru_cache
def word_pattern() -> Pattern:
    """The words of the step Whitespace, and what lies between them: Rust's \\w is that of `regex`."""
    import regex

    def compiled(word: str) -> Any:
        return regex.compile(rf"{word}+|[^{word}\s]+", regex.V1)

    return Pattern(compiled(r"\w"), lambda: compiled(as_then(r"\w")))


def of_code_points(pattern: str) -> Pattern:
    """A pattern of `regex` that says itself which code points it means, whatever version is installed."""
    import regex

    return Pattern(regex.compile(pattern, regex.V1))
