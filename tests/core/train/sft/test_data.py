"""Formats, chat templates, masks and packing."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

import torch

from llmtool.core.run.errors import UserError
from llmtool.core.run.worker import Limits
from llmtool.core.train.objective import IGNORED
from llmtool.core.train.sft.batches import PackedExamples, pack
from llmtool.core.train.sft.conversation import PROMPT, WEIGHTED, Message, Row
from llmtool.core.train.sft.examples import Around, Examples, make_examples, require_trainable
from llmtool.core.train.sft.formats import read_conversations
from llmtool.core.train.sft.template import (
    BUILT_IN,
    REFUSED,
    REWRITTEN,
    UNMARKED,
    Specials,
    Template,
    find_specials,
    find_template,
)

SPECIALS = Specials("", "~")
CHAT = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four"))
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


def encode(text: str, places: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """A token a character."""
    return [ord(c) for c in text], [(place, place) for place in places]


AROUND = Around((), (ord("~"),), frozenset([ord("~")]))


def trained(template: Template, *messages: Message, **more: Any) -> list[str]:
    """The texts of the answers that are trained."""
    made = template.answers(Row("x:1", messages, **more))
    return [made.text[answer.start : answer.end] for answer in made.answers if not answer.untrained]


def untrained(template: Template, *messages: Message) -> list[str]:
    """Why answers are not."""
    return [answer.untrained for answer in template.answers(Row("x:1", messages)).answers if answer.untrained]


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
        ([{"messages": []}], "a conversation without a turn"),
        ([{"conversations": [{"from": "function_call", "value": "so"}]}], r"conversations\[0\].value is no call"),
        ([{"instruction": "i", "output": "o", "history": [["a"]]}], "history is not a list of pairs"),
        ([{"prompt": "p", "completion": "c", "system": "s"}], "system: prompt and completion are taken as they are"),
        ([{"prompt": "p", "chosen": "c", "rejected": "r"}], r"preference data \(chosen, rejected\)"),
        ([{"prompt": "p", "completion": "c", "label": True}], r"preference data \(label\)"),
        ([{"messages": [{"content": "x"}]}], r"messages\[0\].role is missing"),
        ([{"messages": "hello"}], "messages is not a list"),
        ([{"messages": ["hello"]}], r"messages\[0\] is not an object"),
        ([{"text": "t", "prompt": "p", "completion": "c"}], "fields of several formats: prompt-completion, text"),
        ([{"question": "q"}], "a row of no known format.*'question'"),
        ([{"instruction": 3, "output": "o"}], "instruction is a int, not a string"),
        (["words"], ":1: a str, not an object"),
    ],
)
def test_bad_rows_are_one_line_with_file_and_row(write: Write, rows: list[Any], words: str) -> None:
    path = write("bad.jsonl", jsonl(*rows))
    with pytest.raises(UserError, match=words) as caught:
        list(read_conversations([str(path)]))
    assert str(caught.value).startswith(f"{path}:")


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


@pytest.mark.parametrize("name", BUILT_IN)
def test_answers_are_trained_with_their_end(name: str) -> None:
    end, space = {"plain": ("~\n", " "), "chatml": ("<|im_end|>\n", "")}[name]
    template = Template(BUILT_IN[name], SPECIALS, name)
    assert trained(template, *CHAT) == [f"{space}two{end}", f"{space}four{end}"]
    weighted = Message("assistant", "two", untrained=WEIGHTED)
    assert trained(template, CHAT[0], weighted, *CHAT[2:]) == [f"{space}four{end}"]
    assert untrained(template, CHAT[0], weighted, *CHAT[2:]) == [WEIGHTED]


TURN = "{% for m in messages %}[{{ m.role[0] }}]"
PROMPT_FOR_ONE = "{% if add_generation_prompt %}[a]{% endif %}"
BOTH = ["two", "four"]


@pytest.mark.parametrize(
    "body, trains, leaves",
    [
        # Earlier answers written otherwise at the end: a thought taken out, a text left out.
        ("{{ m.content if loop.last or m.role == 'user' }}{% endfor %}" + PROMPT_FOR_ONE, ["four"], REWRITTEN),
        # Something behind the last turn alone: the answer is the same without it.
        ("{{ m.content }}{% endfor %}" + PROMPT_FOR_ONE + "{% if not add_generation_prompt %}!{% endif %}",
         ["two", "four!"], None),
        # A prompt that begins a thought, where answers are written without.
        ("{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]<think>{% endif %}", BOTH, None),
        # An answer that begins as the prompt goes on.
        ("{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]tf{% endif %}", BOTH, None),
        # The talk up to an answer refused.
        ("{{ m.content }}{% endfor %}{{ raise_exception('too short') if messages | length < 3 }}" + PROMPT_FOR_ONE,
         ["four"], REFUSED),
        # Told by the template, whatever the renderings say.
        ("{% generation %}{{ m.content if m.role == 'assistant' and not loop.last }}{% endgeneration %}{% endfor %}",
         ["two"], UNMARKED),
    ],
)  # fmt: skip
def test_where_answers_stand(body: str, trains: list[str], leaves: str | None) -> None:
    template = Template(TURN + body, SPECIALS, "t")
    assert trained(template, *CHAT) == trains
    assert set(untrained(template, *CHAT)) == ({leaves} if leaves else set())


def test_a_talk_that_goes_on_changes_the_last_answer() -> None:
    """The text ends with the answer then, as the model met it."""
    source = "{{ m.content if loop.last or m.role == 'user' }}{% endfor %}"
    template = Template(TURN + source + PROMPT_FOR_ONE, SPECIALS, "t")
    made = template.answers(Row("x:1", (*CHAT[:2], CHAT[2])))
    assert (made.text, made.answers[0].untrained) == ("[u]one[a]two", "")
    assert made.text[made.answers[0].start :] == "two"


def test_what_a_template_does_not_read_is_refused_or_told() -> None:
    template = Template(TURN + "{{ m.content }}{% endfor %}", SPECIALS, "t")
    call = Message("assistant", None, {"tool_calls": CALLED})
    thought = Message("assistant", "a", {"thinking": "hm"})
    for messages, more, words in (
        ((CHAT[0], call), {}, r"x:1: messages\[1\].tool_calls: the chat template \(t\) does not read it"),
        ((CHAT[0], thought), {}, r"messages\[1\].reasoning_content: the chat.*--ignore reasoning_content"),
        (CHAT, {"tools": [{"name": "f"}]}, "x:1: tools: the chat template"),
    ):
        with pytest.raises(UserError, match=words):
            trained(template, *messages, **more)
    named = Message("user", "u", {"name": "Ann"})
    developer = Message("developer", "d")
    _, counts = make_examples([Row("x:1", (developer, named, CHAT[1]), unknown=("id",))], template, AROUND, encode, 99)
    assert counts.unread == {"id": 1, "messages[].name": 1}
    assert counts.roles == {"developer": 1, "user": 1, "assistant": 1}
    assert template.render([developer], prompt=False, where="x") == "[s]d"  # a role that it does not know
    users = Template("{% for m in messages if m.role != 'tool' %}{{ m.content }}~{% endfor %}", SPECIALS, "t")
    assert users.answers(Row("x:1", (Message("tool", "12"), *CHAT))).hidden == ("tool",)
    parts = Message("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    assert template.render([parts], prompt=False, where="x") == "[u]ab"
    reads = Template("{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}", SPECIALS, "t")
    assert reads.render([parts], prompt=False, where="x") == "<a><b>"


def test_templates_are_sandboxed_and_their_errors_are_one_line() -> None:
    for source, words in (
        ("{{ ''.__class__.__mro__ }}", "refuses it"),
        ("{{ messages.append(1) }}", "refuses it"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("\n{{ messages[0].nothing.more }}", r"no attribute 'nothing' \(line 2 of the template\)"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurses without end"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Template(source, SPECIALS, "t").render(CHAT, prompt=False, where="d.jsonl:7")
        assert str(caught.value).startswith("d.jsonl:7:")
        assert "\n" not in str(caught.value)
    for source, words in (
        ("{% if %}", "at line 1"),
        ("{% break %}", "outside loop"),
        ("{% if 1 %}" * 300 + "{% endif %}" * 300, "nested too deeply"),
        ("{% for a in [1] %}" * 60 + "{% endfor %}" * 60, "nested"),
    ):
        with pytest.raises(UserError, match=f"^t: chat template: .*{words}"):
            Template(source, SPECIALS, "t")


@pytest.mark.parametrize(
    "source, words",
    [
        ("{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2, "runs for more than 0.3 s"),
        ("{{ ('x' * 10**10) | length }}", "needs more than 64 MiB of memory"),
        ("{% for i in range(9999) %}{{ 'x' * 10**4 }}{% endfor %}", "writes more than 67,108,864 characters|64 MiB"),
    ],
)
def test_templates_have_limits(source: str, words: str) -> None:
    template = Template("{{ '' }}{% if messages[0].content == 'go' %}" + source + "{% endif %}", SPECIALS, "t",
                        limits=Limits(0.3, 1 << 26))  # fmt: skip
    with pytest.raises(UserError, match=rf"^d:3: the chat template .*({words})"):
        template.render([Message("user", "go")], prompt=False, where="d:3")
    assert template.render([Message("user", "on")], prompt=False, where="d:4") == ""  # and goes on


def test_templates_are_found_where_tokenizers_have_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no chat template.*--template FILE, or one of plain, chatml"):
        find_template(None, tmp_path, SPECIALS)
    assert find_template(None, tmp_path, SPECIALS, "inside").source == "inside"
    settings = {"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}],
                "eos_token": {"content": "</s>"}, "bos_token": None}  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = find_template(None, tmp_path, SPECIALS)
    assert found.source == "D"
    assert found.of(Row("x", CHAT, tools=[{}])) == "tool_use"
    assert find_template("tool_use", tmp_path, SPECIALS).source == "T"
    assert find_specials(tmp_path, {"bos_token": "<s>"}) == Specials("<s>", "</s>")
    (tmp_path / "chat_template.jinja").write_text("J")
    assert find_template(None, tmp_path / "tokenizer.json", SPECIALS).source == "J"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert find_template("rag", tmp_path, SPECIALS).source == "R"
    (tmp_path / "own.jinja").write_text("O")
    assert find_template(str(tmp_path / "own.jinja"), tmp_path, SPECIALS).source == "O"
    with pytest.raises(UserError, match="cannot read"):
        find_template("nowhere.jinja", tmp_path, SPECIALS)


def test_masks_truncation_and_counts() -> None:
    template = Template("{% for m in messages %}{{ m.content }}|{% endfor %}", SPECIALS, "t")
    rows = [
        Row("d:1", (Message("user", "ab"), Message("assistant", "xyz"))),
        Row("d:2", (Message("user", "abcdefghijkl"), Message("assistant", "xyz"))),
        Row("d:3", (Message("user", "abcdef"), Message("assistant", "uvwxyz"))),
        Row("d:4", (Message("user", "a"),)),
        Row("d:5"),
        Row("d:6", pieces=(("pq", False), ("rs", True))),
        Row("d:7", (Message("user", "a"), Message("assistant", "b", untrained=WEIGHTED))),
    ]
    examples, counts = make_examples(rows, template, AROUND, encode, 9)
    facts = counts.to_json()
    losses = {"empty": 1, "masked": 2, "cut_masked": 1, "truncated": 1, "overlong": 0}
    sums = {"rows": 7, "kept": 3, "tokens": 7 + 10 + 5, "trained": 4 + 3 + 3, "answers": 5, "endless": 1}
    assert {key: facts[key] for key in losses | sums} == losses | sums
    assert counts.untrained == {"beyond the length": 1, WEIGHTED: 1}
    assert counts.ends == {ord("~"): 1}
    places = {"cut_masked": "d:2", "truncated": "d:3", "masked": "d:4", "empty": "d:5", "endless": "d:1"}
    assert {key: counts.first[key] for key in places} == places
    text = "".join(map(chr, examples[0].ids))
    assert (text, examples[0].trained.tolist()) == ("ab|xyz|", [False] * 3 + [True] * 4)
    assert "".join(map(chr, examples[2].ids)) == "pqrs~"
    assert examples[2].trained.tolist() == [False] * 2 + [True] * 3
    dropped, counts = make_examples(rows, template, AROUND, encode, 9, drop_overlong=True)
    assert (len(dropped), counts.overlong, counts.truncated) == (2, 2, 0)
    _, counts = make_examples([rows[3], rows[4], rows[6]], template, AROUND, encode, 9)
    words = r"d:5: nothing is trainable: of 3 rows 1 empty, 2 without an answer that is trained, answers: 1 weighted 0"
    with pytest.raises(UserError, match=words):
        require_trainable(counts, "d")


def make(lengths: list[int]) -> Examples:
    examples = Examples()
    for number, length in enumerate(lengths):
        examples.add([100 * (number + 1) + place for place in range(length)], [place > 1 for place in range(length)])
    return examples


@pytest.mark.parametrize("seed", range(3))
def test_packing_keeps_every_example_whole_and_apart(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(3, 30, 60).tolist()
    examples = make(lengths)
    packed = PackedExamples(examples, 29, 4, seed)
    assert sorted(number for row in packed.packed for number in row) == list(range(60))
    assert packed.fill > 0.9
    seen: list[int] = []
    for number in range(len(packed.packed)):
        ids, labels, documents = packed.row(number)
        for document in set(documents.tolist()):
            inside = documents == document
            if document == 29:  # padding
                assert (labels[inside] == IGNORED).all()
                continue
            own, wanted = ids[inside], labels[inside]
            example = int(own[0]) // 100 - 1
            seen.append(example)
            assert own.tolist() == examples[example].ids[:-1].tolist()
            assert wanted[0] == IGNORED
            assert wanted[1:].tolist() == examples[example].ids[2:].tolist()
    assert sorted(seen) == list(range(60))


def test_rows_depend_on_seed_and_step_alone() -> None:
    examples = make([5, 9, 7, 12, 4, 8, 6])
    one, same, other = (PackedExamples(examples, 12, 2, seed) for seed in (0, 0, 1))
    whole = one.batch(3, range(2))
    parts = [same.batch(3, range(row, row + 1)) for row in range(2)]
    assert torch.equal(whole.ids, torch.cat([part.ids for part in parts]))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    changed = make([5, 9, 7, 12, 4, 8, 6])
    changed._trained[3] ^= 1
    assert PackedExamples(changed, 12, 2, 0).fingerprint() != one.fingerprint()
    epochs = [[one.row(e * len(one.packed) + n)[0].tolist() for n in range(len(one.packed))] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert PackedExamples(examples, 12, 2, 0, packing=False).steps(2) == 7


def test_packing_is_best_fit() -> None:
    assert sorted(map(sorted, pack([6, 4, 5, 5], 10, 0))) == [[0, 1], [2, 3]]
