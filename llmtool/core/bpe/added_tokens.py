"""Added tokens: texts that are matched before anything else is done, and the flags that say how.

Special ones (`<|endoftext|>`) are plain text unless the caller allows them; all others always match. A text is
searched twice: for the tokens that are not `normalized` as it stands, then, in what lies between and after
normalization, for those that are. In each search the leftmost, longest match is taken, and matches do not overlap.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.pattern import pinned
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, closest

FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")

LONGEST_ADDED_TOKEN = 1000
"""Characters: a search may look at this many at every place of a text."""


@dataclass(frozen=True)
class AddedToken:
    """One added token.

    normalized: matched in the normalized text, by its own normalized content. lstrip, rstrip: takes the white space
    before or after it along. single_word: matches only where no word character touches it.
    """

    content: str
    id: int
    special: bool = True
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False

    @property
    def plain(self) -> bool:
        """Special, and matched just as it stands: what a token of our own training is."""
        return self == AddedToken(self.content, self.id)

    @property
    def flags(self) -> dict[str, bool]:
        """How it is matched, in the order in which `tokenizers` writes it."""
        names = ("single_word", "lstrip", "rstrip", "normalized", "special")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """As a tokenizer.json holds it."""
        return asdict(self)


def special_tokens(numbers: Mapping[str, int]) -> tuple[AddedToken, ...]:
    """Special tokens without flags, from text -> id."""
    return tuple(AddedToken(content, number) for content, number in numbers.items())


@dataclass(frozen=True)
class Match:
    """A token at [start, end) of a text, the white space that it takes along included."""

    start: int
    end: int
    token: AddedToken


def search_order(tokens: Iterable[AddedToken]) -> list[AddedToken]:
    """Special tokens go first: of two that are the same text after normalization the first is matched."""
    return sorted(tokens, key=lambda token: not token.special)


def find(text: str, tokens: Mapping[str, AddedToken], allow_special: bool) -> Iterator[Match]:
    """Matches of one search, by definition; `tokens` by their content as it is searched.

    A match that is not wanted (a special token, or one that `single_word` refuses) still covers its place: no shorter
    one is searched there. White space that a match takes to its right may also be the next one's.
    """
    lengths = sorted({len(content) for content in tokens if content}, reverse=True)
    at = taken = 0
    while at < len(text):
        content = next((text[at : at + n] for n in lengths if text[at : at + n] in tokens), None)
        if content is None:
            at += 1
            continue
        token, start, end = tokens[content], at, at + len(content)
        at = end
        if token.special and not allow_special:
            continue
        if token.single_word and (is_word(text[start - 1 : start]) or is_word(text[end : end + 1])):
            continue
        if token.lstrip:
            start = max(len(text[:start].rstrip(WHITE_SPACE)), taken)
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
        yield Match(start, end, token)
        taken = end


WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space, which no version has changed since 6.3."""


def is_word(character: str) -> bool:
    """Whether single_word counts a character as part of a word; nothing is not."""
    return bool(character) and _word().fullmatch(pinned(character)) is not None


@lru_cache
def _word() -> Any:
    import regex

    return regex.compile(r"\w")


def read_added_token(facts: Any, key: str, where: str) -> AddedToken:
    """An added token of a file; absent flags are false, any value of the wrong kind is refused by name."""
    content = facts.get("content") if isinstance(facts, dict) else None
    if not isinstance(content, str) or len(content) > LONGEST_ADDED_TOKEN:
        raise UserError(f"{key} has no usable content", where=where)
    for name in facts:
        if name not in ("id", "content", *FLAGS):
            raise UserError(f"unknown field {key}.{name!r:.60}", where=where, hint=closest(name, list(FLAGS)))
    for name in FLAGS:
        if facts.get(name) is not None and not isinstance(facts[name], bool):
            raise UserError(f"{key}.{name} is {facts[name]!r:.60}, not true or false", where=where)
    if type(facts.get("id")) is not int or not 0 <= facts["id"] < 1 << 24:
        what = f"{key}.id is {facts.get('id')!r:.60}, not an id"
        raise UserError(what, where=where, hint=f"whole numbers from 0 to {(1 << 24) - 1}")
    return AddedToken(content, facts["id"], **{name: bool(facts.get(name)) for name in FLAGS})
