"""Pre-tokenizers: the published patterns that cut a text into pieces before any merge.

The pattern is the definition; the engine's scanners and `split` below must cut exactly as the `regex` module does.
Undecodable bytes are one code point each, neither letter nor number nor white space (U+DC80..U+DCFF, PEP 383).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.vocabulary import decode_text, encode_text
from llmtool.core.run.errors import UserError, closest

UNICODE_VERSION = "17.0"
"""Unicode version of the class tables; recorded in every tokenizer file."""

NEW_IN_UNICODE = "\U00016ea0"
"""A letter of UNICODE_VERSION that is none in the version before."""

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_WHITE = r"\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Pretokenizer:
    """A named pattern; other spellings in the wild that cut the same are in `aliases`."""

    name: str
    pattern: str
    source: str
    aliases: tuple[str, ...] = ()


def _contractions_then_letters(digits: str) -> str:
    return _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _WHITE


_CL100K = _contractions_then_letters(r"\p{N}{1,3}")

PRETOKENIZERS = {
    entry.name: entry
    for entry in (
        Pretokenizer("none", "", "the whole document is one piece"),
        Pretokenizer(
            "gpt2",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            "GPT-2 (Radford et al. 2019)",
            (
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
                r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
                r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
            ),
        ),
        Pretokenizer("cl100k", _CL100K, "GPT-4"),
        Pretokenizer(
            "o200k",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?"
            rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
            rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_WHITE}",
            "GPT-4o",
        ),
        Pretokenizer("llama3", _CL100K, "Llama 3 (the same pattern as GPT-4's)"),
        Pretokenizer("qwen2", _contractions_then_letters(r"\p{N}"), "Qwen2, Qwen3 (single digits)"),
    )
}


def find_pretokenizer(name: str) -> Pretokenizer:
    """The pre-tokenizer of that name, or a UserError that lists them."""
    if name not in PRETOKENIZERS:
        known = list(PRETOKENIZERS)
        raise UserError(f"unknown pre-tokenizer {name!r}", hint=closest(name, known) or f"one of {', '.join(known)}")
    return PRETOKENIZERS[name]


def name_of_pattern(pattern: str) -> str | None:
    """The name of a pattern met in a foreign file; None when it is none of ours to the letter."""
    for entry in PRETOKENIZERS.values():
        if pattern and pattern in (entry.pattern, *entry.aliases):
            return entry.name
    return None


@lru_cache
def _compiled(name: str) -> Callable[[str], list[str]]:
    import regex

    if not regex.match(r"\p{L}", NEW_IN_UNICODE):
        raise UserError(f"the regex package is older than Unicode {UNICODE_VERSION}", hint="pip install -U regex")
    matcher: Any = regex.compile(PRETOKENIZERS[name].pattern)
    findall: Callable[[str], list[str]] = matcher.findall
    return findall


def split(name: str, text: bytes) -> list[bytes]:
    """Pieces of a document by the `regex` module: the definition, and the portable engine's scanner."""
    if name == "none":
        return [text] if text else []
    return [encode_text(piece) for piece in _compiled(name)(decode_text(text))]
