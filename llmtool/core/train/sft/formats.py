"""Rows of instruction data: what format a file is in is told by its fields, never guessed; errors name file and row.

messages            {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}, ...]}
sharegpt            {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}, ...]}
alpaca              {"instruction": ..., "input": ..., "output": ...}; input may be missing
prompt-completion   {"prompt": ..., "completion": ...}: taken as they are, without a chat template
text                {"text": ...}: every token is trained
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtool.core.run.errors import UserError, closest
from llmtool.core.train.sft.rows import read_rows

FIELDS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Format -> the fields that tell it; other fields of a row are passed over."""

FORMATS = tuple(FIELDS)
ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "model": "assistant", "tool": "tool", "observation": "tool",
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """A turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    """A row: a conversation, or pieces of plain text, each trained or not. `where` is file and row."""

    where: str
    messages: tuple[Message, ...] = ()
    pieces: tuple[tuple[str, bool], ...] = ()


def read_conversations(inputs: Sequence[str], wanted: str = "auto") -> Iterator[Row]:
    """Every row of all inputs; a file whose rows are in different formats is refused. wanted: a format, or "auto"."""
    if wanted != "auto" and wanted not in FIELDS:
        hint = closest(wanted, list(FORMATS)) or f"one of {', '.join(FORMATS)}"
        raise UserError(f"format {wanted!r} is not known", hint=hint)
    first: dict[str, tuple[str, int]] = {}
    for source, number, row in read_rows(inputs):
        where = f"{source}:{number}"
        found = tell(row, where, wanted)
        known, row_of = first.setdefault(source, (found, number))
        if found != known:
            what = f"a row in the format {found}, but row {row_of} is in the format {known}"
            raise UserError(what, where=where, hint="one format a file")
        yield PARSERS[found](row, where)


def tell(row: Mapping[str, Any], where: str, wanted: str = "auto") -> str:
    """The one format whose fields the row has."""
    fitting = [name for name, fields in FIELDS.items() if all(field in row for field in fields)]
    if wanted != "auto":
        if wanted not in fitting:
            missing = next(field for field in FIELDS[wanted] if field not in row)
            raise UserError(f"no field {missing!r}, which {wanted} has", where=where, hint=_fields_of(row))
        return wanted
    if len(fitting) > 1:
        hint = f"say which with --format {fitting[0]}"
        raise UserError(f"fields of several formats: {', '.join(fitting)}", where=where, hint=hint)
    if not fitting:
        raise UserError(f"a row of no known format ({', '.join(FORMATS)})", where=where, hint=_fields_of(row))
    return fitting[0]


def _fields_of(row: Mapping[str, Any]) -> str:
    return f"the row's fields: {', '.join(map(repr, list(row)[:8])) or 'none'}"


def _turns(row: Mapping[str, Any], where: str, field: str, role: str, content: str) -> list[tuple[str, str]]:
    """(role, content) of each turn, both strings."""
    turns = row[field]
    if not isinstance(turns, list):
        raise UserError(f"{field} is not a list", where=where)
    found = []
    for number, turn in enumerate(turns):
        place = f"{field}[{number}]"
        if not isinstance(turn, dict):
            raise UserError(f"{place} is not an object", where=where)
        for key in (role, content):
            if not isinstance(turn.get(key), str):
                kind = "missing" if key not in turn else f"a {type(turn[key]).__name__}, not a string"
                raise UserError(f"{place}.{key} is {kind}", where=where)
        found.append((turn[role], turn[content]))
    return found


def _messages(row: Mapping[str, Any], where: str) -> Row:
    messages = []
    for number, (role, content) in enumerate(_turns(row, where, "messages", "role", "content")):
        if role not in ROLES:
            hint = closest(role, list(ROLES)) or f"one of {', '.join(ROLES)}"
            raise UserError(f"messages[{number}].role {role!r} is not known", where=where, hint=hint)
        messages.append(Message(role, content))
    return Row(where, tuple(messages))


def _sharegpt(row: Mapping[str, Any], where: str) -> Row:
    messages = []
    for number, (role, content) in enumerate(_turns(row, where, "conversations", "from", "value")):
        if role not in SHAREGPT_ROLES:
            hint = f"one of {', '.join(SHAREGPT_ROLES)}"
            raise UserError(f"conversations[{number}].from {role!r} is not known", where=where, hint=hint)
        messages.append(Message(SHAREGPT_ROLES[role], content))
    return Row(where, tuple(messages))


def _strings(row: Mapping[str, Any], where: str, *fields: str) -> list[str]:
    for field in fields:
        if not isinstance(row.get(field), str):
            raise UserError(f"{field} is a {type(row.get(field)).__name__}, not a string", where=where)
    return [row[field] for field in fields]


def _alpaca(row: Mapping[str, Any], where: str) -> Row:
    instruction, output = _strings(row, where, "instruction", "output")
    more = _strings(row, where, "input")[0] if row.get("input") is not None else ""
    user = f"{instruction}\n\n{more}" if more else instruction
    return Row(where, (Message("user", user), Message("assistant", output)))


def _prompt_completion(row: Mapping[str, Any], where: str) -> Row:
    prompt, completion = _strings(row, where, "prompt", "completion")
    return Row(where, pieces=((prompt, False), (completion, True)))


def _text(row: Mapping[str, Any], where: str) -> Row:
    return Row(where, pieces=((_strings(row, where, "text")[0], True),))


PARSERS = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "text": _text,
}
