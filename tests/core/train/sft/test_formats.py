"""Rows of instruction data: formats, fields and turns, and what is said of bad ones."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.run.errors import UserError
from llmtool.core.train.sft.conversation import PROMPT, WEIGHTED, Message, Row
from llmtool.core.train.sft.examples import Around, make_examples
from llmtool.core.train.sft.formats import read_conversations

ROWS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "messages": (
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "id": 3},
        (Message("system", "s"), Message("user", "u")),
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
        (Message("user", "u"), Message("assistant", "a")),
    ),
    "alpaca": (
        {"instruction": "do", "input": "it", "output": "done"},
        (Message("user", "do\n\nit"), Message("assistant", "done")),
    ),
}
Write = Callable[[str, bytes | str], Path]


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["jsonl", "json array", "gzip", "parquet"])
def test_formats_are_told_by_their_fields(write: Write, name: str, form: str) -> None:
    row, wanted = ROWS[name]
    if form == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = write("d.parquet", b"")
        parquet.write_table(arrow.Table.from_pylist([row, row]), path)
    else:
        text = json.dumps([row, row]) if form == "json array" else jsonl(row, row)
        path = write("d.json", gzip.compress(text.encode()) if form == "gzip" else text)
    found = list(read_conversations([str(path)]))
    assert [row.messages for row in found] == [wanted, wanted]
    assert [row.where for row in found] == [f"{path}:1", f"{path}:2"]


def test_plain_rows(write: Write) -> None:
    (row,) = read_conversations([str(write("a.jsonl", jsonl({"prompt": "p", "completion": "c"})))])
    assert row.pieces == (("p", False), ("c", True))
    (row,) = read_conversations([str(write("b.jsonl", jsonl({"text": "t"})))])
    assert row.pieces == (("t", True),)
    both = str(write("c.jsonl", jsonl({"text": "t", "prompt": "p", "completion": "c"})))
    assert next(read_conversations([both], "text")).pieces == (("t", True),)


USER = {"role": "user", "content": "u"}


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"messages": [USER]}, {"text": "t"}], ":2: a row in the format text, but row 1 is in the format messages"),
        ([{"messages": [{"role": "bot", "content": "x"}]}], r":1: messages\[0\].role 'bot' is not known"),
        ([{"conversations": [{"from": "narrator", "value": "x"}]}], r"from 'narrator' is not known"),
        ([{"messages": [USER, {"role": "user", "content": None}]}], r":1: messages\[1\].content is missing or null"),
        ([{"messages": [{**USER, "content": 3}]}], r"messages\[0\].content is a int, not a string"),
        ([{"messages": [{**USER, "content": [{"type": "image_url"}]}]}], r"content\[0\] is a part of 'image_url'"),
        ([{"messages": [{**USER, "weight": 1}]}], r"messages\[0\].weight: only answers are trained"),
        ([{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}], r"weight is 0.5: wanted 0 or 1"),
        ([{"messages": [USER], "system": 3}], "system is a int"),
        ([{"messages": [{"role": "system", "content": "a"}, USER], "system": "b"}], "says something else"),
        ([{"messages": [USER], "tools": "no JSON"}], "tools is a text that is not JSON"),
        ([{"messages": [USER], "tools": ["f"]}], "tools is not a list of objects"),
        ([{"messages": [USER], "chat_template_kwargs": {"messages": []}}], "chat_template_kwargs is not an object"),
        ([{"text": None}], ":1: text is null, not a string"),
        ([{"instruction": "i", "output": None}], ":1: output is null, not a string"),
        ([{"conversations": [{"from": "function_call", "value": "so"}]}], r"conversations\[0\].value is no call"),
        ([{"instruction": "i", "output": "o", "history": [["a"]]}], "history is not a list of pairs"),
        ([{"prompt": "p", "completion": "c", "system": "s"}], "system: prompt and completion are taken as they are"),
        ([{"prompt": "p", "chosen": "c", "rejected": "r"}], r"preference data \(chosen, rejected\)"),
        ([{"prompt": "p", "completion": "c", "label": True}], r"preference data \(label\)"),
        ([{"messages": [USER], "label": False}], r"preference data \(label\).*--ignore label"),
        ([{"conversations": [{"from": "human", "value": "x"}], "label": True}], r"preference data \(label\)"),
        ([{"instruction": "i", "output": "o", "label": False}], r"preference data \(label\)"),
        ([{"messages": [{"content": "x"}]}], r"messages\[0\].role is missing"),
        ([{"messages": "hello"}], "messages is not a list"),
        ([{"messages": ["hello"]}], r"messages\[0\] is not an object"),
        ([{"text": "t", "prompt": "p", "completion": "c"}], "fields of several formats: prompt-completion, text"),
        ([{"question": "q"}], "a row of no known format.*'question'"),
        ([{"instruction": 3, "output": "o"}], "instruction is a int, not a string"),
        (["words"], ":1: a str, not an object"),
        ([[USER], [USER]], r":1: a turn by itself.*\{\"messages\": \[...\]\}"),
        ([[[USER]]], r":1: a list, not an object \(wrap the turns"),
        ([{"from": "human", "value": "x"}], ":1: a turn by itself"),
    ],
)
def test_bad_rows_are_one_line_with_file_and_row(write: Write, rows: list[Any], words: str) -> None:
    path = write("bad.jsonl", jsonl(*rows))
    with pytest.raises(UserError, match=words) as caught:
        list(read_conversations([str(path)]))
    assert str(caught.value).startswith(f"{path}:")


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_conversations_without_a_turn_are_empty_rows(write: Write, name: str) -> None:
    """Counted and dropped like a text of no characters; one such row does not end the reading of a file."""
    turn = {"from": "human", "value": "u"} if name == "conversations" else USER
    path = write("d.jsonl", jsonl({name: []}, {name: None, "id": 1}, {name: [turn]}, {name: None, "system": "s"}))
    rows = list(read_conversations([str(path)]))
    assert [len(row.messages) for row in rows] == [0, 0, 1, 0]
    assert [row.where for row in rows] == [f"{path}:{number}" for number in (1, 2, 3, 4)]
    _, counts = make_examples(rows[:2], None, Around(), lambda text, places: ([], []), 8)
    assert (counts.rows, counts.empty, counts.first["empty"]) == (2, 2, f"{path}:1")


def test_what_is_no_json_is_named(write: Write) -> None:
    path = write("bad.jsonl", jsonl({"text": "t"}) + '{"text": \n')
    with pytest.raises(UserError, match=r"bad.jsonl:2: not valid JSON"):
        list(read_conversations([str(path)]))
    with pytest.raises(UserError, match="format 'alpacca' is not known"):
        list(read_conversations([str(path)], "alpacca"))
    with pytest.raises(UserError, match="no field 'messages', which messages has"):
        list(read_conversations([str(path)], "messages"))


def row_of(write: Write, row: dict[str, Any], **more: Any) -> Row:
    (found,) = read_conversations([str(write("row.jsonl", jsonl(row)))], **more)
    return found


CALLED = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]


@pytest.mark.parametrize(
    "turn, wanted",
    [
        ({"from": "gpt", "value": "a", "weight": 0}, Message("assistant", "a", untrained=WEIGHTED)),
        ({"from": "model", "value": "a", "train": False}, Message("assistant", "a", untrained=WEIGHTED)),
        ({"role": "assistant", "content": "a", "training": True}, Message("assistant", "a")),
        ({"from": "observation", "value": "{}"}, Message("tool", "{}")),
        ({"from": "function", "value": "12 degrees"}, Message("tool", "12 degrees")),
        ({"from": "function", "value": '{"name": "f", "arguments": {"x": 1}}'}, Message("assistant", None)),
        ({"from": "function_call", "value": '[{"name": "f", "arguments": {"x": 1}}]'}, Message("assistant", None)),
    ],
)
def test_turns_of_others(write: Write, turn: dict[str, Any], wanted: Message) -> None:
    found = row_of(write, {"conversations": [turn]}).messages[0]
    assert found == wanted
    if wanted.content is None:
        assert found.to_json() == {"role": "assistant", "tool_calls": CALLED}


def test_fields_of_rows(write: Write) -> None:
    """What stands beside the turns is read or named, whatever the format."""
    tool = {"type": "function", "function": {"name": "f"}}
    row = row_of(write, {
        "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}], "system": "s", "id": 7,
        "tools": json.dumps([tool]), "chat_template_kwargs": {"enable_thinking": False}, "source": None,
    })  # fmt: skip
    assert [(m.role, m.content) for m in row.messages] == [("system", "s"), ("user", "u"), ("assistant", "a")]
    assert (row.tools, row.arguments, row.unknown) == ([tool], {"enable_thinking": False}, ("id",))
    assert row_of(write, {"messages": [USER], "functions": [{"name": "f"}]}).tools == [tool]
    row = row_of(write, {"instruction": "i", "output": "o", "system": "s", "history": [["p", "q"]]})
    assert [m.content for m in row.messages] == ["s", "p", "q", "i", "o"]
    answer = {"role": "assistant", "content": "a"}
    row = row_of(write, {"prompt": [USER, answer, USER], "completion": [answer]})
    assert [m.untrained for m in row.messages if m.role == "assistant"] == [PROMPT, ""]
    row = row_of(write, {"messages": [USER, answer], "weight": 0})
    assert [m.untrained for m in row.messages] == [WEIGHTED] * 2
    assert row_of(write, {"messages": [{**USER, "weight": 1}], "label": 1}, ignored=["weight"]).unknown == ("label",)
    assert row_of(write, {"messages": [USER], "chosen": "c"}, wanted="messages").unknown == ("chosen",)


def test_a_turn_as_transformers_hands_it_over() -> None:
    turn = {"content": "a", "role": "assistant", "thinking": "hm", "name": None}
    facts = Message("assistant", "a", turn).to_json()
    assert next(iter(facts.items())) == ("thinking", "hm")
    assert facts == {"thinking": "hm", "content": "a", "role": "assistant", "reasoning_content": "hm"}


U, A = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
HUMAN, GPT = {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}
PUBLISHED: dict[str, tuple[dict[str, Any], Any]] = {
    "tulu 3": ({"id": "x", "messages": [U, A], "source": "s"}, ("user assistant", ("id", "source"))),
    "ultrachat": ({"prompt": "u", "prompt_id": "9", "messages": [U, A]}, ("user assistant", ("prompt", "prompt_id"))),
    "lmsys, wildchat": (
        {"conversation_id": "x", "conversation": [{**U, "language": "en"}, A], "turn": 1, "redacted": False},
        ("user assistant", ("conversation_id", "turn", "redacted")),
    ),
    "slimorca": (
        {"conversations": [{"from": "system", "value": "s", "weight": 0}, {**HUMAN, "weight": 0},
                           {**GPT, "weight": 1}]},
        ("system user assistant", ()),
    ),
    "openhermes": (
        {"conversations": [{**HUMAN, "weight": None}, GPT], "system_prompt": None, "source": "s"},
        ("user assistant", ("source",)),
    ),
    "toolace": (
        {"system": "s", "conversations": [{"from": "user", "value": "u"}, {"from": "assistant", "value": "[f()]"},
                                          {"from": "tool", "value": "1"}, {"from": "assistant", "value": "a"}]},
        ("system user assistant tool assistant", ()),
    ),
    "hermes function calling": (
        {"conversations": [{"from": "system", "value": "s"}, HUMAN, GPT, {"from": "tool", "value": "1"}, GPT],
         "id": "x", "tools": '[{"type": "function", "function": {"name": "f"}}]', "category": "c"},
        ("system user assistant tool assistant", ("id", "category")),
    ),
    "mathinstruct": ({"source": "s", "instruction": "u", "output": "a"}, ("user assistant", ("source",))),
    "alpaca-gpt4": ({"instruction": "u", "input": "", "output": "a", "text": None}, ("user assistant", ())),
    "magpie": ({"instruction": "u", "response": "a", "conversations": [HUMAN, GPT]},
               ("user assistant", ("instruction", "response"))),
    "ultrafeedback": ({"prompt": "u", "chosen": [U, A], "rejected": [U, A], "messages": [U, A]}, "preference data"),
    "hh-rlhf": ({"chosen": "u a", "rejected": "u b"}, "preference data"),
    "lima": ({"conversations": ["u", "a"], "source": "s"}, r"conversations\[0\] is not an object"),
    "capybara": ({"conversation": [{"input": "u", "output": "a"}]}, r"conversation\[0\].role is missing"),
    "dolly": ({"instruction": "u", "context": "", "response": "a"}, "no known format.*'context', 'response'"),
    "openorca": ({"system_prompt": "s", "question": "u", "response": "a"}, "no known format.*'question'"),
    "xlam": ({"id": 1, "query": "u", "answers": "[]", "tools": "[]"}, "no known format.*'answers'"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_of_published_data_are_read_or_refused_by_what_they_hold(write: Write, name: str) -> None:
    """Shapes of data sets in use, in words of our own: nothing is lost in silence."""
    row, wanted = PUBLISHED[name]
    if isinstance(wanted, str):
        with pytest.raises(UserError, match=rf"row.jsonl:1: .*{wanted}"):
            row_of(write, row)
        return
    found = row_of(write, row)
    assert (" ".join(message.role for message in found.messages), found.unknown) == wanted
    assert found.messages[-1].untrained == ""
