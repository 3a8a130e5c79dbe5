"""Normalizers: what `tokenizers` does to a text before it is cut.

A step is held as the object that a tokenizer.json holds, its fields complete and checked; STEPS says what each does.
A normalizer acts on each segment between added tokens alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmtool.core.bpe.added_tokens import WHITE_SPACE
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


STEPS: dict[str, Callable[[str, Step], str]] = {
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
    return tuple(steps)


def as_component(steps: Sequence[Step], inner: str) -> dict[str, Any] | None:
    """Steps as a tokenizer.json holds them."""
    if len(steps) < 2:
        return dict(steps[0]) if steps else None
    return {"type": "Sequence", inner: [dict(step) for step in steps]}
