"""Rows of instruction data: what format a file is in is told by its fields, never guessed; errors name file and row.

messages            {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}, ...]}, or "conversation"
sharegpt            {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}, ...]}
alpaca              {"instruction": ..., "input": ..., "output": ...}; input, system and history may be missing
prompt-completion   {"prompt": ..., "completion": ...}: two texts, taken as they are without a chat template, or two
                    lists of messages, of which those of the completion are trained
text                {"text": ...}: every token is trained
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import find_inputs
from llmtool.core.corpus.readers import read_records
from llmtool.core.run.errors import UserError, closest
from llmtool.core.train.sft.conversation import (
    CALL,
    CHOICES,
    EITHER,
    PROMPT,
    ROLES,
    WEIGHTED,
    Message,
    Row,
    read_objects,
    read_turn,
)

FIELDS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Format -> the fields that tell it."""
OTHERWISE = {"messages": "conversation"}
"""Another name of a field, as LMSYS-Chat and WildChat have it."""

FORMATS = tuple(FIELDS)
OWN_ROLES = {role: role for role in ROLES}
FOREIGN_ROLES = {
    **OWN_ROLES, "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "observation": "tool", "function_response": "tool", "tool_response": "tool", "function_call": CALL,
    "tool_call": CALL, "function": EITHER,
}  # fmt: skip
"""As sharegpt's `from` names them."""

BESIDE = ("system", "tools", "functions", "documents", "chat_template_kwargs", *CHOICES)
"""Fields of a row that say something of its conversation."""
GIVEN = tuple(name for name in BESIDE if name not in CHOICES)
"""Those of them that a template is given."""
PAIRS = ("chosen", "rejected")
TURN = (("role", "content"), ("from", "value"))
"""The fields that tell a turn."""
WRAPPED = 'wrap the turns of each row: {"messages": [...]}'
RESERVED = ("messages", "tools", "documents", "add_generation_prompt")


def read_rows(inputs: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(source, row from 1, object) of all inputs; a row that is none is an error, plain text in a directory is not."""
    report = ReadReport()
    for source, number, row in read_records(find_inputs(inputs, report=report), report=report, strict=True):
        if not isinstance(row, dict):
            what = f"a {type(row).__name__}, not an object"
            hint = WRAPPED if _holds_turns(row) else "JSONL has one object a line"
            raise UserError(what, where=f"{source}:{number}", hint=hint)
        yield source, number, row


def read_conversations(inputs: Sequence[str], wanted: str = "auto", ignored: Collection[str] = ()) -> Iterator[Row]:
    """Every row of all inputs; a file whose rows are in different formats is refused. wanted: a format, or "auto".

    ignored: fields of rows and of turns that are left out, as if they were not there.
    """
    if wanted != "auto" and wanted not in FIELDS:
        hint = closest(wanted, list(FORMATS)) or f"one of {', '.join(FORMATS)}"
        raise UserError(f"format {wanted!r} is not known", hint=hint)
    left_out = frozenset(ignored)
    first: dict[str, tuple[str, int]] = {}
    for source, number, given in read_rows(inputs):
        where = f"{source}:{number}"
        row = {key: value for key, value in given.items() if key not in left_out}
        found = tell(row, where, wanted)
        known, row_of = first.setdefault(source, (found, number))
        if found != known:
            what = f"a row in the format {found}, but row {row_of} is in the format {known}"
            raise UserError(what, where=where, hint="one format a file")
        yield PARSERS[found](row, where, left_out)


def read_prompt(given: Mapping[str, Any], where: str, ignored: Collection[str] = ()) -> Row:
    """A conversation that an answer is to follow, read as one of training is: messages or conversations, or a prompt
    that is a user's text or a list of messages."""
    left_out = frozenset((*ignored, "id"))
    row = {key: value for key, value in given.items() if key not in left_out}
    if row.get(_called("messages", row)) is not None:
        found = _messages(row, where, left_out)
    elif row.get("conversations") is not None:
        found = _sharegpt(row, where, left_out)
    elif (prompt := row.pop("prompt", None)) is not None:
        turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        found = _messages({**row, "messages": turns}, where, left_out)
    else:
        raise UserError("no list of messages", where=where, hint=_fields_of(row))
    if not found.messages:
        raise UserError("a conversation without a turn", where=where)
    if found.messages[-1].role == "assistant":
        raise UserError("the last message is an answer already", where=where, hint="end with the user's")
    return found


def read_plain_prompt(given: Mapping[str, Any], where: str, ignored: Collection[str] = ()) -> str:
    """A prompt that is taken as it is; what says something of a conversation has no place beside it."""
    for name in GIVEN:
        if name not in ignored and given.get(name) not in (None, "", [], {}):
            what = f"{name}: a prompt is taken as it is, without a chat template"
            raise UserError(what, where=where, hint=f"--chat, or --ignore {name}")
    return _strings(given, where, "prompt")[0]


def tell(row: Mapping[str, Any], where: str, wanted: str = "auto") -> str:
    """The one format whose fields the row has, if need be with null in them."""
    fitting = [
        name for name, fields in FIELDS.items() if all(row.get(_called(field, row)) is not None for field in fields)
    ]
    if wanted != "auto":
        if not all(_called(field, row) in row for field in FIELDS[wanted]):
            missing = next(field for field in FIELDS[wanted] if _called(field, row) not in row)
            raise UserError(f"no field {missing!r}, which {wanted} has", where=where, hint=_fields_of(row))
        return wanted
    if pair := [name for name in PAIRS if row.get(name) is not None]:
        hint = f"--format {fitting[0]} trains on that alone" if fitting else "give the chosen answers as messages"
        raise UserError(f"preference data ({', '.join(pair)}): post-training is supervised", where=where, hint=hint)
    if {*fitting} - {"text"} and isinstance(row.get("label"), bool):  # of a text alone it may say anything
        hint = "keep the wanted rows, and leave the field out with --ignore label"
        raise UserError("preference data (label): post-training is supervised", where=where, hint=hint)
    if len(fitting) > 1:
        hint = f"say which with --format {fitting[0]}"
        raise UserError(f"fields of several formats: {', '.join(fitting)}", where=where, hint=hint)
    if not fitting and len(void := [name for name, fields in FIELDS.items() if all(f in row for f in fields)]) == 1:
        return void[0]
    if not fitting and _is_turn(row):
        raise UserError("a turn by itself, where a row is a conversation", where=where, hint=WRAPPED)
    if not fitting:
        raise UserError(f"a row of no known format ({', '.join(FORMATS)})", where=where, hint=_fields_of(row))
    return fitting[0]


def _is_turn(value: Any) -> bool:
    """Whether it is a turn of a conversation: what an array of turns holds, read as an array of rows."""
    return isinstance(value, dict) and any(one in value and other in value for one, other in TURN)


def _holds_turns(row: Any) -> bool:
    """Whether it is a list of turns, or of conversations that are such lists."""
    first = row[0] if isinstance(row, list) and row else None
    return _is_turn(first) or (isinstance(first, list) and any(map(_is_turn, first)))


def _called(field: str, row: Mapping[str, Any]) -> str:
    """The name that a field has in a row."""
    other = OTHERWISE.get(field)
    return other if other and row.get(field) is None and isinstance(row.get(other), list) else field


def _fields_of(row: Mapping[str, Any]) -> str:
    return f"the row's fields: {', '.join(map(repr, list(row)[:8])) or 'none'}"


def _turns(value: Any, name: str, where: str, roles: Mapping[str, str], ignored: frozenset[str]) -> list[Message]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{name} is not a list", where=where)
    return [read_turn(turn, f"{name}[{number}]", where, roles, ignored) for number, turn in enumerate(value)]


def _conversation(row: Mapping[str, Any], where: str, messages: list[Message], *read: str) -> Row:
    """A row with what stands beside its turns. read: the fields that the turns came from."""
    if not messages:  # counted as empty, as a text of no characters is
        return Row(where)
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise UserError(f"system is a {type(system).__name__}, not a string", where=where)
    if system:
        if messages[0].role == "system" and messages[0].content != system:
            raise UserError("a system field, and a first turn of system that says something else", where=where)
        messages = messages if messages[0].role == "system" else [Message("system", system), *messages]
    for key in CHOICES:
        value = row.get(key)
        if value is not None and (isinstance(value, str) or value not in (0, 1)):
            raise UserError(f"{key} is {value!r}: wanted 0 or 1", where=where, hint="drop the row, or repeat it")
        if value is not None and not value:
            messages = [m if m.untrained else replace(m, untrained=WEIGHTED) for m in messages]
    tools, functions = (read_objects(row.get(name), name, where) for name in ("tools", "functions"))
    if functions and tools:
        raise UserError("both tools and functions", where=where, hint="leave one out with --ignore functions")
    if functions:
        tools = [{"type": "function", "function": function} for function in functions]
    arguments = row.get("chat_template_kwargs") or {}
    if not isinstance(arguments, dict) or set(arguments) & set(RESERVED):
        raise UserError(f"chat_template_kwargs is not an object without {', '.join(RESERVED)}", where=where)
    return Row(
        where, tuple(messages), tools=tools, documents=read_objects(row.get("documents"), "documents", where),
        arguments=arguments, unknown=_unknown(row, *read, *BESIDE),
    )  # fmt: skip


def _unknown(row: Mapping[str, Any], *known: str) -> tuple[str, ...]:
    return tuple(key for key, value in row.items() if key not in known and value is not None)


def _messages(row: Mapping[str, Any], where: str, ignored: frozenset[str]) -> Row:
    name = _called("messages", row)
    turns = row[name]
    foreign = isinstance(turns, list) and any(isinstance(turn, dict) and "from" in turn for turn in turns)
    roles = FOREIGN_ROLES if foreign else OWN_ROLES
    return _conversation(row, where, _turns(turns, name, where, roles, ignored), name)


def _sharegpt(row: Mapping[str, Any], where: str, ignored: frozenset[str]) -> Row:
    turns = _turns(row["conversations"], "conversations", where, FOREIGN_ROLES, ignored)
    return _conversation(row, where, turns, "conversations")


def _strings(row: Mapping[str, Any], where: str, *fields: str) -> list[str]:
    for field in fields:
        if not isinstance(row.get(field), str):
            value = row.get(field)
            kind = "null" if value is None else f"a {type(value).__name__}"
            raise UserError(f"{field} is {kind}, not a string", where=where)
    return [row[field] for field in fields]


def _alpaca(row: Mapping[str, Any], where: str, ignored: frozenset[str]) -> Row:  # noqa: ARG001 - a parser
    instruction, output = _strings(row, where, "instruction", "output")
    more = _strings(row, where, "input")[0] if row.get("input") is not None else ""
    history = row.get("history") or []
    pairs = isinstance(history, list) and all(isinstance(p, list | tuple) and len(p) == 2 for p in history)
    if not pairs or not all(isinstance(text, str) for pair in history for text in pair):
        raise UserError("history is not a list of pairs of texts", where=where)
    turns = [Message(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]
    user = f"{instruction}\n\n{more}" if more else instruction
    turns += [Message("user", user), Message("assistant", output)]
    return _conversation(row, where, turns, "instruction", "input", "output", "history")


def _prompt_completion(row: Mapping[str, Any], where: str, ignored: frozenset[str]) -> Row:
    if isinstance(row["prompt"], list) and isinstance(row["completion"], list):
        before = _turns(row["prompt"], "prompt", where, OWN_ROLES, ignored)
        after = _turns(row["completion"], "completion", where, OWN_ROLES, ignored)
        turns = [*(replace(turn, untrained=PROMPT) for turn in before), *after]
        return _conversation(row, where, turns, "prompt", "completion")
    prompt, completion = _strings(row, where, "prompt", "completion")
    return _plain(row, where, ((prompt, False), (completion, True)), "prompt", "completion")


def _text(row: Mapping[str, Any], where: str, ignored: frozenset[str]) -> Row:  # noqa: ARG001 - a parser
    return _plain(row, where, ((_strings(row, where, "text")[0], True),), "text")


def _plain(row: Mapping[str, Any], where: str, pieces: tuple[tuple[str, bool], ...], *read: str) -> Row:
    """A row of text as it is; what says something of a conversation has no place there."""
    for key in BESIDE:
        if row.get(key) is not None and row[key] not in ("", []):
            what = f"{key}: {' and '.join(read)} are taken as they are, without a chat template"
            raise UserError(what, where=where, hint=f"write it into the text, or --ignore {key}")
    return Row(where, pieces=pieces, unknown=_unknown(row, *read, *BESIDE))


PARSERS = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "text": _text,
}
