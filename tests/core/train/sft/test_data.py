"""Formats, chat templates, masks and packing."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

import torch

from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED
from llmtool.core.train.sft.batches import PackedExamples, pack
from llmtool.core.train.sft.examples import Examples, make_examples, require_trainable
from llmtool.core.train.sft.formats import Message, Row, read_conversations
from llmtool.core.train.sft.template import BUILT_IN, Specials, Template, find_specials, find_template

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


def encode(text: str) -> list[int]:
    return [ord(c) for c in text]


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
        ([{"messages": [USER, {"role": "user", "content": None}]}], r"messages\[1\].content is a NoneType"),
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


@pytest.mark.parametrize("name", BUILT_IN)
def test_pieces_join_to_the_rendered_text_and_train_the_answers(name: str) -> None:
    template = Template(BUILT_IN[name], SPECIALS, name)
    pieces = template.pieces(CHAT, "x:1")
    assert "".join(text for text, _ in pieces) == template.render(CHAT, prompt=False, where="x:1")
    trained = [text for text, wanted in pieces if wanted]
    assert len(trained) == 2
    assert [("two" in trained[0], "four" in trained[1]), any("one" in t for t in trained)] == [(True, True), False]
    ends = "~" if name == "plain" else "<|im_end|>"
    assert all(ends in text for text in trained)  # the model learns to stop


def test_a_template_that_rewrites_earlier_turns_trains_the_last_answer() -> None:
    source = (
        "{% for m in messages %}[{{ m.role[0] }}]{{ m.content if loop.last or m.role == 'user' else '...' }}"
        "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    pieces = Template(source, SPECIALS, "t").pieces(CHAT, "x:1")
    assert pieces[-1] == ("four", True)
    assert sum(wanted for _, wanted in pieces) == 1


def test_templates_are_sandboxed_and_their_errors_are_one_line(tmp_path: Path) -> None:
    for source, words in (
        ("{{ ''.__class__.__mro__ }}", "refuses it"),
        ("{{ messages.append(1) }}", "refuses it"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ strftime_now('%Y') }}", "undefined"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Template(source, SPECIALS, "t").render(CHAT, prompt=False, where="d.jsonl:7")
        assert str(caught.value).startswith("d.jsonl:7:")
    with pytest.raises(UserError, match="at line 1"):
        Template("{% if %}", SPECIALS, "t")


def test_templates_are_found_where_tokenizers_have_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no chat template.*--template FILE, or one of plain, chatml"):
        find_template(None, tmp_path, SPECIALS)
    assert find_template(None, tmp_path, SPECIALS, "inside").source == "inside"
    settings = {"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}],
                "eos_token": {"content": "</s>"}, "bos_token": None}  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert find_template(None, tmp_path, SPECIALS).source == "D"
    assert find_specials(tmp_path, {"bos_token": "<s>"}) == Specials("<s>", "</s>")
    (tmp_path / "chat_template.jinja").write_text("J")
    assert find_template(None, tmp_path / "tokenizer.json", SPECIALS).source == "J"
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
    ]
    examples, counts = make_examples(rows, template, SPECIALS, encode, 9)
    assert counts.to_json() == {
        "rows": 6, "kept": 3, "empty": 1, "masked": 1, "cut_masked": 1, "truncated": 1, "overlong": 0,
        "tokens": 7 + 10 + 5, "trained": 4 + 3 + 3,
        "first": {"cut_masked": "d:2", "truncated": "d:3", "masked": "d:4", "empty": "d:5"},
    }  # fmt: skip
    text = "".join(map(chr, examples[0].ids))
    assert (text, examples[0].trained.tolist()) == ("ab|xyz|", [False] * 3 + [True] * 4)
    assert "".join(map(chr, examples[2].ids)) == "pqrs~"
    dropped, counts = make_examples(rows, template, SPECIALS, encode, 9, drop_overlong=True)
    assert (len(dropped), counts.overlong, counts.truncated) == (2, 2, 0)
    _, counts = make_examples(rows[3:5], template, SPECIALS, encode, 9)
    with pytest.raises(
        UserError, match=r"d:5: nothing is trainable: of 2 rows 1 empty, 1 without an assistant's answer"
    ):
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
