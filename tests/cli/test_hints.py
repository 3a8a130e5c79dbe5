"""No message sends anybody to an option that is not there."""

import ast
import json
import re
from pathlib import Path

import pytest

import llmtool
from llmtool.cli.surface import tree
from llmtool.core.run.errors import UserError, followable
from tests.faults.trial import invoke

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(r"llmtool ((?:[a-z][a-z-]* )*[a-z][a-z-]*)((?: [^`|\n;&]*)?)")
LEAVES = {
    c.path.removeprefix("llmtool "): {n for o in c.options for n in o.names} for c in tree().walk() if not c.commands
}
EVERY = set().union(*LEAVES.values())


@pytest.mark.parametrize(
    ("hint", "left"),
    [
        ("correct the row, or read without --strict to skip it", "correct the row"),
        ("--format jsonl, or --strict", "--format jsonl"),
        ("--strict, or --format jsonl", "--format jsonl"),
        ("name the field with --field", None),
        ("--bin-dtype uint16 reads nanoGPT's; `llmtool tokenizer encode --strict` writes both",
         "`llmtool tokenizer encode --strict` writes both"),
        ("train it with --special '<s>'", "train it with --special '<s>'"),
        ("free some space, and write elsewhere", "free some space, and write elsewhere"),
        ("a---b, or --format-of-mine", "a---b"),
    ],
)  # fmt: skip
def test_a_hint_is_said_as_far_as_the_command_can_follow(hint: str, left: str | None) -> None:
    assert followable(hint, {"--format", "-o"}) == left


def strings() -> list[tuple[str, str]]:
    """(where, text) of every string of the package; what is filled in later stands as {}."""
    found = []
    for path in sorted(Path(llmtool.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "{}" for part in parts
            )
            if "--" in text and path.name != "pages.py":  # whose commands are run by the tests of the examples
                found.append((f"{path.name}:{getattr(node, 'lineno', 0)}", text))
    return found


def test_hints_name_options_that_some_command_has() -> None:
    """The words behind `hint=`; and of `llmtool COMMAND --option`, wherever it is written, that command's own."""
    wrong = []
    for path in sorted(Path(llmtool.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                text = " ".join(
                    c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and type(c.value) is str
                )
                wrong += [f"{path.name}: {option}" for option in OPTION.findall(text) if option not in EVERY]
    for where, text in strings():
        for words, rest in COMMAND.findall(text):
            names = words.split()
            leaf = next((" ".join(names[:n]) for n in (2, 1) if " ".join(names[:n]) in LEAVES), None)
            if leaf:
                wrong += [f"{where}: {leaf} {option}" for option in OPTION.findall(rest) if option not in LEAVES[leaf]]
    assert not wrong


def test_a_line_of_a_chat_that_is_no_utf8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`data check` and `posttrain` have no --strict, and do not name it."""
    pytest.importorskip("torch")
    llmtool.Tokenizer.train([__file__], 300).save(tmp_path / "tok.json")
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data = tmp_path / "chat.jsonl"
    data.write_bytes(json.dumps(row).encode() + b"\n" + json.dumps(row).encode().replace(b'"a"', b'"a\xff"') + b"\n")
    words = ["data", "check", str(data), "--tokenizer", str(tmp_path / "tok.json"), "--template", "plain"]
    assert invoke(words) == 1
    said = capfd.readouterr().err
    assert said.splitlines() == [said.strip()]
    assert f"{data}:2: not valid UTF-8" in said
    assert "--strict" not in said
    assert "(correct the row)" in said
    with pytest.raises(UserError, match="not valid UTF-8"):
        llmtool.data.check([str(data)], tokenizer=str(tmp_path / "tok.json"), template="plain")
