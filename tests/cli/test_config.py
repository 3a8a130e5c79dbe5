"""--config FILE.toml: a value of the wrong kind is refused by file and key, whatever the command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtool.cli.app import build
from llmtool.cli.config import _fitting
from llmtool.core.run.errors import UserError
from tests.faults.trial import invoke

FILE = Path("c.toml")
WRONG = [
    ("train", "set = 3", "'set': wanted a text, not 3"),
    ("train", "set = [3]", "'set': wanted a text, not 3"),
    ("train", "only = 3", "'only': wanted a text, not 3"),
    ("train", "valid = true", "'valid': wanted a text, not true"),
    ("train", "data = 3", "'data': wanted a text, not 3"),
    ("train", "data = 'a\\u0000b'".replace("'", '"'), "'data': wanted a text without a zero byte"),
    ("train", "include = 1", "'include': wanted a text, not 1"),
    ("train", "html = 3", "'html': wanted a text, not 3"),
    ("train", 'mask-documents = "yes"', "'mask-documents': wanted true or false, not \"yes\""),
    ("train", "mask_documents = 1", "'mask-documents': wanted true or false, not 1"),
    ("train", "steps = true", "'steps': wanted a text or a number, not true"),
    ("train", "model = [1, 2]", "'model': wanted one value, not a list"),
    ("train", "model = true", "'model': wanted a text or a number, not true"),
    ("tokenizer train", "field = 3", "'field': wanted a text, not 3"),
    ("data nextlong", "cap = 3", "'cap': wanted a text, not 3"),
    ("data nextlong", "short-data = 3", "'short-data': wanted a text, not 3"),
    ("data nextlong", "decontaminate = 3", "'decontaminate': wanted a text, not 3"),
    ("eval loss", "data = 3", "'data': wanted a text, not 3"),
]


@pytest.mark.parametrize(("command", "line", "said"), WRONG)
def test_a_value_of_the_wrong_kind_is_one_line(
    command: str,
    line: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    FILE.write_text(line + "\n")
    assert invoke([*command.split(), "--config", "c.toml"]) == 1
    assert capsys.readouterr().err.splitlines() == [f"error: c.toml: key {said}"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('only = "attn"', "--only attn: the model has no parameter of this name"),
        ("model = 1000", "no model of 1,000 parameters"),
    ],
)
def test_one_text_is_a_list_of_one_and_a_number_a_text(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("low lower lowest " * 50)
    assert invoke(["tokenizer", "train", "a.txt", "-o", "t.json", "--vocab-size", "270", "-q"]) == 0
    FILE.write_text(line + '\ntokenizer = "t.json"\ndata = "a.txt"\ndry-run = true\n' + "length = 32\n")
    assert invoke(["train", "--config", "c.toml"]) == 1
    (told,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert said in told
    assert "iterable" not in told


def parameters(group: Any, path: str = "llmtool") -> Iterator[tuple[str, Any]]:
    for name, command in dict(group.commands.items()).items():
        if hasattr(command, "commands"):
            yield from parameters(command, f"{path} {name}")
        elif any(each.name == "config" for each in command.params):
            yield from ((f"{path} {name} {each.name}", each) for each in command.params)


def test_every_option_has_its_kind() -> None:
    counted = 0
    for where, parameter in parameters(build()):
        counted += 1
        flag = getattr(parameter, "is_flag", False)
        for value in ("yes", 1, 1.5, [True]) if flag else (True, ["a", False]):
            with pytest.raises(UserError, match=r"c\.toml: key 'key': wanted "):
                _fitting(parameter, "key", value, FILE)
        several = getattr(parameter, "multiple", False) or parameter.nargs != 1
        for value in (True,) if flag else ("a",):
            assert _fitting(parameter, "key", value, FILE) == ([value] if several else value), where
    assert counted > 500
