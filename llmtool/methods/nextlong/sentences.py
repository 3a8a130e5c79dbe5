"""Where text may be cut: sentences by Unicode's rules, words, characters as readers see them.

Sentences follow UAX 29 (rules SB3 to SB11) by the property Sentence_Break, so that ।, ۔, ؟, ။, ። and 。 end one as
. ! and ? do, with two additions, as the annex leaves them to tailoring: in Thai and Lao, which write no spaces between
words, the space between two letters ends a sentence, and in Tibetan the shad does.
"""

from collections.abc import Iterator

import regex

_F = r"[\p{SB=EX}\p{SB=FO}]*+"  # SB5: marks and format characters belong to what stands before them
_PARA = r"(?:\r\n|[\p{SB=SE}\p{SB=CR}\p{SB=LF}])"
_CLOSE, _SPACE = rf"(?:\p{{SB=CL}}{_F})*+", rf"(?:\p{{SB=SP}}{_F})*+"
_GOES_ON = r"[\p{SB=SC}\p{SB=ST}\p{SB=AT}]"  # SB8a
_LOWER_FOLLOWS = r"[^\p{SB=LE}\p{SB=UP}\p{SB=LO}\p{SB=SE}\p{SB=CR}\p{SB=LF}\p{SB=ST}\p{SB=AT}]*+\p{SB=LO}"  # SB8
_UNSPACED = r"[\p{scx=Thai}\p{scx=Lao}]"
_SENTENCE_END = regex.compile(
    rf"""
    {_PARA}                                                                                         # SB3, SB4
    | \p{{SB=ST}}{_F} {_CLOSE} {_SPACE} (?: {_PARA} | (?!{_GOES_ON}) )                              # SB8a to SB11
    | \p{{SB=AT}}{_F} (?!\p{{SB=NU}}) (?! (?<=[\p{{SB=UP}}\p{{SB=LO}}]{_F}\p{{SB=AT}}{_F}) \p{{SB=UP}} )  # SB6, SB7
      {_CLOSE} {_SPACE} (?: {_PARA} | (?!{_GOES_ON}|{_LOWER_FOLLOWS}) )
    | (?<={_UNSPACED}) \p{{Zs}}++ (?={_UNSPACED})
    | [\u0F0D-\u0F11]++ {_SPACE}
    """,
    regex.VERBOSE | regex.VERSION1,
)
_WORD = regex.compile(r"\S*+\s++|\S++")
_CHARACTER = regex.compile(r"\X")

Span = tuple[int, int]


def sentences(text: str, start: int = 0, stop: int | None = None) -> Iterator[Span]:
    """Ranges of the sentences of text[start:stop], the space behind each included; they lose nothing."""
    stop = len(text) if stop is None else stop
    for match in _SENTENCE_END.finditer(text, start, stop):
        if match.end() > start:
            yield start, match.end()
            start = match.end()
    if start < stop:
        yield start, stop


def words(text: str, start: int = 0, stop: int | None = None) -> Iterator[Span]:
    """Ranges of the words of text[start:stop], the space behind each included."""
    for match in _WORD.finditer(text, start, len(text) if stop is None else stop):
        yield match.span()


def characters(text: str, start: int, stop: int, size: int) -> Iterator[Span]:
    """Ranges of at most `size` code points that end where a reader sees a character end, if one ends in them."""
    while stop - start > size:
        end = start + size
        if not text[start : end + 1].isascii():
            for match in _CHARACTER.finditer(text, start, min(stop, end + 64)):
                if match.end() > start + size:
                    break
                end = match.end()
            else:
                end = start + size
        yield start, end
        start = end
    if start < stop:
        yield start, stop
