"""Conversations as rows hold them: every field of a turn is kept, read, or refused by name; none is lost in silence.

A turn's fields go to the chat template as they stand, as `transformers` hands them over; what this project reads
itself is `role`, `content`, and whether an answer is trained (`weight`, `train`, `training`).
"""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import parse_json

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
CHOICES = ("weight", "train", "training")
"""Whether an answer is trained, as data sets say it: 0 or 1, true or false."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of a thought, the standard one first."""
INNER_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)

WEIGHTED, PROMPT = "weighted 0", "part of the prompt"
"""Why an answer is not to be trained."""


@dataclass(frozen=True)
class Message:
    """A turn. content: text, a list of parts, or None where there is none (a call of a tool). fields: the whole turn.

    untrained: why an answer is not to be trained; "" where it is.
    """

    role: str
    content: str | list[dict[str, Any]] | None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)
    untrained: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a template sees it: without what is null, a thought under each of its names (as in transformers 5)."""
        own = {"role": self.role, "content": self.content}
        facts = {key: value for key, value in ({**self.fields, **own} or own).items() if value is not None}
        thought = next((facts[name] for name in REASONING if name in facts), None)
        return facts if thought is None else {"thinking": thought, **facts, REASONING[0]: thought}

    @property
    def texts(self) -> list[str]:
        """The texts of the content."""
        if isinstance(self.content, list):
            return [part["text"] for part in self.content]
        return [self.content] if self.content else []

    @property
    def thoughts(self) -> list[str]:
        """What a thought says, told beside the content or within it."""
        beside = [thought for name in REASONING if isinstance(thought := self.fields.get(name), str)]
        return [part for part in map(str.strip, beside[:1] or INNER_THOUGHT.findall("".join(self.texts))) if part]


@dataclass(frozen=True)
class Row:
    """A row: a conversation, or pieces of plain text, each trained or not. `where` is file and row.

    tools, documents, arguments: what else its template is given. unknown: fields that nothing here knows.
    """

    where: str
    messages: tuple[Message, ...] = ()
    pieces: tuple[tuple[str, bool], ...] = ()
    tools: list[dict[str, Any]] | None = None
    documents: list[dict[str, Any]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def read_turn(turn: Any, place: str, where: str, roles: Mapping[str, str], ignored: frozenset[str]) -> Message:
    """A turn that is written {"role", "content"} or {"from", "value"}; `roles` are those that may be named."""
    if not isinstance(turn, dict):
        raise UserError(f"{place} is not an object", where=where)
    turn = {key: value for key, value in turn.items() if key not in ignored}
    named, said = ("from", "value") if "role" not in turn and "from" in turn else ("role", "content")
    called = {named: "role", said: "content", "function_call": "tool_calls"}
    order = [called.get(key, key) for key in turn]
    role = turn.pop(named, None)
    if not isinstance(role, str):
        raise UserError(f"{place}.{named} is {_kind(role, named in turn or role is not None)}", where=where)
    if role not in roles:
        hint = closest(role, list(roles)) or f"one of {', '.join(roles)}"
        raise UserError(f"{place}.{named} {role!r} is not known", where=where, hint=hint)
    content = turn.pop(said, None)
    untrained = _untrained(turn, roles[role], place, where)
    turn, role = _without_old_calls(turn, role, roles[role], place, where)
    if role == CALL or (role == EITHER and is_call(content)):
        turn, role, content = {**turn, "tool_calls": read_calls(content, f"{place}.{said}", where)}, "assistant", None
    role = "tool" if role in (EITHER, "function") else role
    has_calls = role == "assistant" and bool(turn.get("tool_calls"))
    read = _content(content, f"{place}.{said}", where, optional=has_calls)
    fields = {"role": role, "content": read, **turn}
    order += [key for key in fields if key not in order]
    return Message(role, read, {key: fields[key] for key in order if key in fields}, untrained)


CALL, EITHER = "call", "either"
"""What a foreign role may mean besides: a call of a tool; a call or its result, as the content says."""


def _untrained(turn: dict[str, Any], role: str, place: str, where: str) -> str:
    """Takes weight, train and training out of a turn."""
    untrained = ""
    for key in CHOICES:
        value = turn.pop(key, None)
        if value is None:
            continue
        if isinstance(value, str) or value not in (0, 1):
            raise UserError(
                f"{place}.{key} is {value!r}: wanted 0 or 1", where=where, hint="drop the turn, or repeat it"
            )
        if value and role not in ("assistant", CALL, EITHER):
            raise UserError(f"{place}.{key}: only answers are trained, and this is a turn of {role}", where=where)
        untrained = untrained if value else WEIGHTED
    return untrained


def _without_old_calls(
    turn: dict[str, Any], named: str, role: str, place: str, where: str
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """`function_call`, which `tool_calls` has replaced, as such; one that is null is none."""
    call = turn.pop("function_call", None)
    if call is None:
        return turn, role
    if role != "assistant" or turn.get("tool_calls"):
        what = "beside tool_calls" if role == "assistant" else f"in a turn of {named}"
        raise UserError(f"{place}.function_call {what}", where=where)
    return {**turn, "tool_calls": read_calls(call, f"{place}.function_call", where)}, role


def is_call(content: Any) -> bool:
    """Whether a text is the JSON of calls, not of a result."""
    try:
        calls = parse_json(content) if isinstance(content, str) else content
    except ValueError:
        return False
    calls = calls if isinstance(calls, list) else [calls]
    return bool(calls) and all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls)


def read_calls(value: Any, place: str, where: str) -> list[dict[str, Any]]:
    """Calls as tool_calls has them, from one or several {"name", "arguments"}, or their JSON."""
    if not is_call(value):
        hint = '{"name": ..., "arguments": ...}, or a list of such'
        raise UserError(f"{place} is no call of a tool", where=where, hint=hint)
    calls = parse_json(value) if isinstance(value, str) else value
    return [{"type": "function", "function": call} for call in (calls if isinstance(calls, list) else [calls])]


def _content(value: Any, place: str, where: str, *, optional: bool) -> str | list[dict[str, Any]] | None:
    if isinstance(value, str) or (value is None and optional):
        return value
    if value is None:
        raise UserError(f"{place} is missing or null", where=where, hint="only a turn with tool_calls may do without")
    if not isinstance(value, list):
        raise UserError(f"{place} is {_kind(value)}, not a string", where=where)
    parts = []
    for number, part in enumerate(value):
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        if not isinstance(part, dict):
            raise UserError(f"{place}[{number}] is {_kind(part)}, not an object", where=where)
        part = {key: inner for key, inner in part.items() if inner is not None}
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type", "no type")
            raise UserError(f"{place}[{number}] is a part of {kind!r}: only text is read", where=where)
        parts.append(part)
    return parts


def read_objects(value: Any, name: str, where: str) -> list[dict[str, Any]] | None:
    """A list of objects, or its JSON; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            raise UserError(f"{name} is a text that is not JSON", where=where, hint="a list of objects") from None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UserError(f"{name} is not a list of objects", where=where)
    return value


def _kind(value: Any, present: bool = True) -> str:
    return f"a {type(value).__name__}" if present else "missing"
