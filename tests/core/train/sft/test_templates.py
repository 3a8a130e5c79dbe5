"""Chat templates: where answers stand, what is refused, limits, and where templates are found."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")

from llmtool.core.run.errors import UserError
from llmtool.core.run.worker import Limits
from llmtool.core.train.sft.conversation import WEIGHTED, Message, Row
from llmtool.core.train.sft.examples import Around, make_examples
from llmtool.core.train.sft.template import REFUSED, REWRITTEN, UNMARKED, UNMET, Specials, Template
from llmtool.core.train.sft.template_files import BUILT_IN, find_specials, find_template

SPECIALS = Specials("", "~")
CHAT = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four"))
CALLED = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]


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


LAST_THOUGHT = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages if m.role == 'assistant' %}{% set ns.last = m.id %}{% endfor %}"
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content if m.id == ns.last else m.content.split('</think>')[-1] }}"
    "~{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
"""The last answer so far keeps its thought, also before the next question."""
SYSTEM_LAST = (
    "{% for m in messages if m.role != 'system' %}[{{ m.role[0] }}]"
    "{{ messages[0].content + ' ' if loop.last and m.role == 'user' and messages[0].role == 'system' }}{{ m.content }}~"
    "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
ALWAYS_PROMPTS = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}~{% endfor %}[a]({})"
WITHOUT_THOUGHTS = (
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content.split('</think>')[-1] }}~{% endfor %}"
    "{% if add_generation_prompt %}[a]<think>{% endif %}"
)


def talk(*said: str, system: str | None = None) -> Row:
    turns = [("system", system)] if system else []
    turns += [(("user", "assistant")[number % 2], text) for number, text in enumerate(said)]
    return Row("x:1", tuple(Message(role, text, {"id": n}) for n, (role, text) in enumerate(turns)))


@pytest.mark.parametrize(
    "source, row, text, trains, leaves",
    [
        # LFM2.5's kind: all answers as the model met them, earlier thoughts taken out before the last question.
        (LAST_THOUGHT, talk("u", "<think>a</think>b", "v", "<think>c</think>d"),
         "[u]u~[a]<think>a</think>b~[u]v~[a]<think>c</think>d~", ["<think>a</think>b~", "<think>c</think>d~"], []),
        (LAST_THOUGHT, talk("u", "<think>a</think>b", "v", "<think>c</think>d", "w", "<think>e</think>f"),
         "[u]u~[a]b~[u]v~[a]<think>c</think>d~[u]w~[a]<think>e</think>f~",
         ["<think>e</think>f~"], [REWRITTEN, UNMET]),
        # Mistral's kind: the system turn goes into the last question, and nowhere once that is answered.
        (SYSTEM_LAST, talk("u", "b", "v", "d", system="S"), "[u]u~[a]b~[u]S v~[a]d~", ["d~"], [UNMET]),
        (SYSTEM_LAST, talk("u", "b", "v", "d"), "[u]u~[a]b~[u]v~[a]d~", ["b~", "d~"], []),
        # A prompt behind every text, whatever is asked for: no end of an answer can be told.
        (ALWAYS_PROMPTS, talk("u", "b"), "[u]u~[a]b~[a]({})", [], [UNMET]),
    ],
)  # fmt: skip
def test_the_last_answer_stands_behind_the_prompt_for_it(
    source: str, row: Row, text: str, trains: list[str], leaves: list[str]
) -> None:
    made = Template(source, SPECIALS, "t").answers(row)
    assert made.text == text
    assert [text[a.start : a.end] for a in made.answers if not a.untrained] == trains
    assert [a.untrained for a in made.answers if a.untrained] == leaves


def test_thoughts_that_the_template_leaves_out_are_told() -> None:
    """R1's kind: the prompt begins a thought, and no answer is written with one."""
    template = Template(WITHOUT_THOUGHTS, SPECIALS, "t")
    row = talk("u", "<think>\na\n</think>b", "v", "d")
    assert trained(template, *row.messages) == ["b~", "d~"]
    _, counts = make_examples([row], template, AROUND, encode, 99)
    assert (counts.thoughtless, counts.unprompted) == (1, 2)
    assert counts.first["thoughtless"] == "x:1"
    named = Message("assistant", "b", {"reasoning_content": "a"})
    reads = Template("{% for m in messages %}{{ m.reasoning_content if 0 }}{{ m.content }}~{% endfor %}", SPECIALS, "t")
    assert reads.answers(Row("x:1", (Message("user", "u"), named))).thoughtless == 1
    shows = Template("{% for m in messages %}{{ m.reasoning_content }}|{{ m.content }}~{% endfor %}", SPECIALS, "t")
    assert shows.answers(Row("x:1", (Message("user", "u"), named))).thoughtless == 0


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
