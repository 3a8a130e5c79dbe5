"""Which tokens an extension may make: asked before a merge, so that a refused one leaves its count to its parts.

    allows = TokenFilter(definition, veto=[r"\\d"], scripts=("Greek",))
    allows("λόγος".encode())

A token that is spelled like an entry of the tokenizer is always refused: text that could be cut into it is not, and to
give its id a second way of being made would let old merges begin anew.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.unicode_data import UNICODE_VERSION
from llmtool.core.bpe.vocabulary import decode_text, token_to_string
from llmtool.core.run.errors import ChoiceError, UserError
from llmtool.core.run.files import read_text

KNOWN, VETOED, SCRIPT = "spelled like a token that is there", "vetoed", "of another script"


class TokenFilter:
    """Whether a token of some bytes may be made; `refused` counts why not, `examples` holds the first of each kind.

    veto: patterns of the `regex` module, searched for in the token's text; a file's tokens, one a line. scripts: names
    of Unicode scripts; a token must hold a letter of one, and none of any other (Common and Inherited may stand by).
    """

    def __init__(self, definition: Definition, veto: Sequence[str] = (), scripts: Sequence[str] = ()) -> None:
        vocabulary = definition.vocabulary
        self._spell = token_to_string if vocabulary.alphabet == "bytes" else decode_text
        self._units = vocabulary.unit_of
        self._entries = {*vocabulary.unused, *vocabulary.added_ids}
        self._words: set[str] = set()
        self._patterns = []
        for each in veto:
            if Path(each).is_file():
                self._words |= _read_words(Path(each))
            else:
                self._patterns.append(_compile(each))
        self._scripts = Scripts(tuple(scripts)) if scripts else None
        self.refused: Counter[str] = Counter()
        self.examples: dict[str, list[bytes]] = {}

    def __call__(self, spelling: bytes) -> bool:
        """Whether a token of that spelling may be made."""
        reason = self._reason(spelling)
        if reason is None:
            return True
        self.refused[reason] += 1
        self.examples.setdefault(reason, []).append(spelling)
        return False

    def _reason(self, spelling: bytes) -> str | None:
        if spelling in self._units or self._spell(spelling) in self._entries:
            return KNOWN
        text = decode_text(spelling).replace("\u2581", " ")
        if text in self._words or text.strip() in self._words or any(found.search(text) for found in self._patterns):
            return VETOED
        if self._scripts is not None and not self._scripts.hold(spelling):
            return SCRIPT
        return None


def _compile(pattern: str) -> Any:
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(
            f"--veto {pattern!r:.100}: {error}", hint="a pattern, or a file of tokens, one a line"
        ) from None


def _read_words(path: Path) -> set[str]:
    return {line for line in read_text(path, wanted="a list of tokens").splitlines() if line.strip()}


class Scripts:
    """Tokens of some scripts; of half a character at the end, something that it may become must be theirs."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._own = _code_points(names)
        self._shared = frozenset(_code_points(("Common", "Inherited")))
        self._members = frozenset(self._own)

    def hold(self, spelling: bytes) -> bool:
        """Whether a token is of these scripts."""
        own = False
        text = spelling.decode("utf-8", "surrogateescape")
        for place, character in enumerate(text):
            code = ord(character)
            if code in self._members:
                own = True
            elif 0xDC80 <= code <= 0xDCFF:
                tail = _loose(text[place:])
                if tail is None:
                    return False
                if not tail:  # a continuation byte, whose first byte has gone before
                    continue
                low, high = _range(tail)
                at = bisect_left(self._own, low)
                if not (at < len(self._own) and self._own[at] <= high):
                    return False
                own = True
            elif code not in self._shared:
                return False
        return own


def _loose(text: str) -> bytes | None:
    """Bytes at the end of a token that begin a character; b"" for continuation bytes; None for what is no UTF-8."""
    data = text.encode("utf-8", "surrogateescape")
    if data[0] & 0xC0 == 0x80:
        return b""
    if not 0xC2 <= data[0] <= 0xF4:
        return None
    return data if len(data) <= 3 and all(byte & 0xC0 == 0x80 for byte in data[1:]) else None


def _range(start: bytes) -> tuple[int, int]:
    """The code points whose UTF-8 begins so."""
    first = start[0]
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    low = first & (0xFF >> (size + 1))
    for byte in start[1:]:
        low = low << 6 | byte & 0x3F
    missing = 6 * (size - len(start))
    return low << missing, ((low + 1) << missing) - 1


@lru_cache(8)
def _code_points(names: tuple[str, ...]) -> tuple[int, ...]:
    """The code points of scripts, in order."""
    import regex

    try:
        pattern = regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in names) + "]")
    except regex.error:
        hint = f"names of Unicode {UNICODE_VERSION}, with commas between: Greek,Cyrillic"
        raise ChoiceError(f"--scripts {','.join(names)}: no such script", hint=hint) from None
    every = "".join(map(chr, (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)))
    return tuple(ord(match.group()) for match in pattern.finditer(every))
