"""Normalizers: what `tokenizers` does to a text before it is cut.

A step is held as the object that a tokenizer.json holds, its fields complete and checked; STEPS says what each does.
A normalizer acts on each segment between added tokens alone. The step SentencePiece is ours: what `Precompiled` holds,
applied as SentencePiece applies it (charsmap.py), which leaves user-defined symbols alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.added_tokens import WHITE_SPACE
from llmtool.core.bpe.pattern import is_later, of_ranges
from llmtool.core.bpe.unicode_forms import composed
from llmtool.core.run.errors import UserError, closest

Step = Mapping[str, Any]
"""One step of a normalizer, a pre-tokenizer or a decoder, by its `type`."""

NFC: Step = {"type": "NFC"}


def normalize(text: str, steps: Sequence[Step]) -> str:
    """The text after all steps."""
    for step in steps:
        text = STEPS[step["type"]](text, step)
    return text


def _prepend(text: str, step: Step) -> str:
    return step["prepend"] + text if text else text


def _replace(text: str, step: Step) -> str:
    kind, pattern = next(iter(step["pattern"].items()))
    if kind == "String":
        return text.replace(pattern, step["content"])
    from llmtool.core.bpe.pattern import compile_pattern

    content: str = step["content"]
    return "".join(piece if not matched else content for piece, matched in compile_pattern(pattern).cuts(text))


def _strip(text: str, step: Step) -> str:
    text = text.lstrip(WHITE_SPACE) if step["strip_left"] else text
    return text.rstrip(WHITE_SPACE) if step["strip_right"] else text


def _lowercase(text: str, _step: Step) -> str:
    return text.lower() if text.isascii() else text.translate(_LOWER)


class _Lower(dict[int, str]):
    """Lower case of each code point alone, by the tables of `tokenizers`; filled as it is asked."""

    def __missing__(self, code: int) -> str:
        from llmtool.core.bpe.unicode_data import LOWERCASE

        self[code] = LOWERCASE.get(code) or (chr(code) if is_later(chr(code)) else chr(code).lower())
        return self[code]


_LOWER = _Lower()


def _strip_accents(text: str, _step: Step) -> str:
    from llmtool.core.bpe.unicode_data import COMBINING

    return text if text.isascii() else "".join(piece for piece, mark in of_ranges(COMBINING).cuts(text) if not mark)


def _by_longest(text: str, step: Step) -> str:
    from llmtool.core.bpe.charsmap import charsmap

    encoded, symbols = step["precompiled_charsmap"], step["symbols"]
    if not encoded:
        return text
    table = charsmap(encoded)
    if not symbols:
        return table.longest(text)
    return "".join(
        part if place % 2 else table.longest(part) for place, part in enumerate(_any_of(*symbols).split(text))
    )


@lru_cache(maxsize=8)
def _any_of(*symbols: str) -> "re.Pattern[str]":
    """Any of the symbols, the longest first, as a group: what is split by it keeps them."""
    return re.compile("(" + "|".join(map(re.escape, sorted(symbols, key=len, reverse=True))) + ")")


def _by_grapheme(text: str, step: Step) -> str:
    from llmtool.core.bpe.charsmap import charsmap

    return charsmap(step["precompiled_charsmap"]).by_grapheme(text)


STEPS: dict[str, Callable[[str, Step], str]] = {
    "SentencePiece": _by_longest,
    "Lowercase": _lowercase,
    "Precompiled": _by_grapheme,
    "StripAccents": _strip_accents,
    "NFC": lambda text, _step: composed(text, "NFC"),
    "NFD": lambda text, _step: composed(text, "NFD"),
    "NFKC": lambda text, _step: composed(text, "NFKC"),
    "NFKD": lambda text, _step: composed(text, "NFKD"),
    "Prepend": _prepend,
    "Replace": _replace,
    "Strip": _strip,
}

FIELDS: dict[str, dict[str, Any]] = {
    "NFC": {}, "NFD": {}, "NFKC": {}, "NFKD": {},
    "Prepend": {"prepend": str},
    "Replace": {"pattern": "pattern", "content": str},
    "Strip": {"strip_left": bool, "strip_right": bool},
    "Lowercase": {}, "StripAccents": {},
    "Precompiled": {"precompiled_charsmap": str}, "SentencePiece": {"precompiled_charsmap": str, "symbols": list},
}  # fmt: skip
"""The fields of each step: a type or the kind "pattern"; (type, default) where a file may leave it out."""


def read_steps(component: Any, key: str, inner: str, fields: Mapping[str, Mapping[str, Any]], where: str) -> list[Step]:
    """The steps of a component of a tokenizer.json: itself, or the members of a Sequence, checked and complete.

    fields: those of each known step. Unknown steps and fields are refused by name.
    """
    if component is None:
        return []
    if not isinstance(component, dict) or not isinstance(component.get("type"), str):
        raise UserError(f"{key} is not a component with a type", where=where)
    kind = component["type"]
    if kind == "Sequence":
        members = component.get(inner)
        if not isinstance(members, list):
            raise UserError(f"{key}.{inner} is not a list", where=where)
        return [step for member in members for step in read_steps(member, key, inner, fields, where)]
    if kind not in fields:
        hint = f"these are: {', '.join(fields)}"
        raise UserError(f"{key} {kind!r:.60} is not implemented", where=where, hint=hint)
    step = {"type": kind}
    for name, wanted in fields[kind].items():
        optional = isinstance(wanted, tuple)
        of_kind, default = wanted if optional else (wanted, None)
        value = component.get(name, default)
        if value is None and optional:
            value = default
        if not (value is None and optional) and not _is(value, of_kind):
            raise UserError(f"{key}: {kind}.{name} is {value!r:.60}", where=where)
        step[name] = value
    for name in component:
        if name != "type" and name not in fields[kind]:
            raise UserError(f"unknown field {key}.{name!r:.60}", where=where, hint=closest(name, list(fields[kind])))
    return [step]


def _is(value: Any, kind: Any) -> bool:
    if kind == "pattern":
        return (
            isinstance(value, dict)
            and list(value) in (["String"], ["Regex"])
            and isinstance(next(iter(value.values())), str)
        )
    if isinstance(kind, frozenset):
        return value in kind
    return type(value) is kind


def read_normalizer(component: Any, where: str) -> tuple[Step, ...]:
    """Steps of a tokenizer.json's normalizer."""
    steps = read_steps(component, "normalizer", "normalizers", FIELDS, where)
    for step in steps:
        if "Regex" in step.get("pattern", {}):
            from llmtool.core.bpe.pattern import compile_pattern

            compile_pattern(step["pattern"]["Regex"], where)
        if not all(isinstance(symbol, str) and symbol for symbol in step.get("symbols", ())):
            raise UserError("normalizer: SentencePiece.symbols holds other than texts", where=where)
        if step.get("precompiled_charsmap") or step["type"] == "Precompiled":
            from llmtool.core.bpe.charsmap import charsmap

            charsmap(step["precompiled_charsmap"], where)
    return tuple(steps)


def symbols_of(steps: Sequence[Step]) -> frozenset[str]:
    """User-defined symbols of SentencePiece: searched as they are in normalized text."""
    return frozenset(symbol for step in steps for symbol in step.get("symbols", ()))


def stock_steps(steps: Sequence[Step]) -> list[Step]:
    """The steps as `tokenizers` has them: SentencePiece's becomes Precompiled, which differs inside some graphemes."""
    return [
        {"type": "Precompiled", "precompiled_charsmap": step["precompiled_charsmap"]}
        if step["type"] == "SentencePiece"
        else step
        for step in steps
        if step.get("precompiled_charsmap") != ""
    ]


def as_component(steps: Sequence[Step], inner: str) -> dict[str, Any] | None:
    """Steps as a tokenizer.json holds them."""
    if len(steps) < 2:
        return dict(steps[0]) if steps else None
    return {"type": "Sequence", inner: [dict(step) for step in steps]}
