"""What a newcomer types: nothing but the verb and a file, a wrong word, half of a command, the same once more."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from llmtool import catalog
from llmtool.cli.again import _with
from llmtool.cli.app import build
from llmtool.cli.next import NEXT, after
from llmtool.cli.surface import tree
from llmtool.cli.template import key, template
from llmtool.cli.tree import Command
from llmtool.cli.values import UsageError, Value
from tests.cli.test_app import run
from tests.processes import PATIENCE, read_terminal

COMMANDS = [command for command in tree().walk() if not command.commands]


def parameters(command: Command) -> list[Any]:
    """Typer's own parameters of a command."""
    node: Any = build()
    for word in command.path.split()[1:]:
        node = node.commands.get(word)
    return list(node.params)


def test_what_comes_next_reads_the_text_as_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "low lower lowest", "more": "x"}\n' * 50)
    words = ["--field", "body", "--field", "more"]
    done = run("tokenizer", "train", "a.jsonl", *words, cwd=tmp_path)
    assert done.stderr.decode().splitlines()[-1] == f"next: llmtool train a.jsonl {' '.join(words)}"
    (tmp_path / "settings.toml").write_text('field = ["body"]\n')
    done = run("tokenizer", "train", "a.jsonl", "--config", "settings.toml", "-o", "t.json", cwd=tmp_path)
    assert done.stderr.decode().splitlines()[-1] == "next: llmtool train a.jsonl --tokenizer t.json --field body"
    words = ["a.jsonl", *words, "--eos", "--shards", "1M", "--format", "npy", "-o", "shards", "--force"]
    done = run("tokenizer", "encode", "tokenizer.json", *words, cwd=tmp_path)
    following = done.stderr.decode().splitlines()[-1]
    assert following == f"next: llmtool tokenizer encode tokenizer.json {' '.join(words[:-1])} --verify"
    assert run(*following.split()[2:], cwd=tmp_path).returncode == 0


def test_files_alone_make_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    done = run("tokenizer", "train", "a.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode().splitlines()[-1] == "next: llmtool train a.txt"
    assert "<|endoftext|>" in (tmp_path / "tokenizer.json").read_text()
    again = run("tokenizer", "train", "a.txt", cwd=tmp_path)
    assert (again.returncode, b"complete already" in again.stderr, b"next: " in again.stderr) == (0, True, True)
    assert run("tokenizer", "train", "a.txt", "-q", cwd=tmp_path).stderr == b""


def test_train_refuses_before_it_makes_a_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine").touch()
    for words in (["--html", "page.md"], ["-o", "taken"], ["--html", "a.txt"]):
        done = run("train", "a.txt", *words, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "taken"]


def test_everything_missing_is_said_at_once() -> None:
    done = run("tokenizer", "extend")
    line = b"error: missing: TOK, INPUT..., --add N (llmtool tokenizer extend --help)\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["tokenizer", "trian"], "Did you mean 'train'?"),
        (["tokenzier"], "Did you mean 'tokenizer'?"),
        (["tokenizer", "train", "x", "--algorithm", "scafold"], "did you mean 'scaffold'?"),
        (["tokenizer", "train", "x", "--vocab-sise", "8K"], "--vocab-size"),
        (["tokenizer", "train", "x", "--vocab-size", "8X"], "not a number such as 300 or 1.5M"),
        (["convert", "dsmoe-baseline", "statik", "x"], "did you mean 'static'?"),
        (["completions", "bahs"], "did you mean 'bash'?"),
        (["help", "scaling", "predit"], "Did you mean 'predict'?"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_right_one(words: list[str], wanted: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr.count(b"\n"), done.stdout) == (2, 1, b"")
    assert done.stderr.startswith(b"error: ")
    assert wanted in done.stderr.decode()


def test_every_count_takes_units_and_every_choice_says_the_nearest() -> None:
    counted = 0
    for command in COMMANDS:
        for parameter in parameters(command):
            read = getattr(parameter.type, "func", None)
            if not isinstance(read, Value):
                continue
            option = read.field.option
            if read.kind is int and (option is None or option.max is None or option.max >= 2000):
                assert read("2K") == 2000, parameter.opts
                counted += 1
            if read.choices and len(read.choices[0]) > 3:
                with pytest.raises(UsageError, match="did you mean"):
                    read(read.choices[0][:-1] + "_")
    assert counted > 100


def test_no_standin_is_a_type() -> None:
    for command in tree().walk():
        for option in (*command.arguments, *command.options):
            assert "<" not in option.standin, (command.path, option)
            assert "range" not in option.standin, (command.path, option)


@pytest.mark.parametrize("command", [c for c in COMMANDS if any(o.field == "print_config" for o in c.options)],
                         ids=lambda command: command.path)  # fmt: skip
def test_a_printed_config_is_read_again(command: Command) -> None:
    """Every line with a default, uncommented, is TOML, and what the options hold anyway."""
    text = template(command, {})
    assert tomllib.loads(text) == {}
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line and not line.endswith("...")]
    names = {key(option) for option in (*command.arguments, *command.options)}
    facts = tomllib.loads("\n".join(line for line in lines if line.partition(" = ")[0] in names))
    spelled = {key(option): option.field for option in (*command.arguments, *command.options)}
    defaults = {parameter.name: parameter for parameter in parameters(command)}
    for name, value in facts.items():
        parameter = defaults[spelled[name]]
        read = getattr(parameter.type, "func", None)
        found = read(value) if isinstance(read, Value) and not isinstance(value, list) else value
        default = parameter.default
        if isinstance(default, list):
            assert (found if isinstance(found, list) else [found]) == default, name
        else:
            assert str(found) == str(default or False) or found == default, name


def test_print_config_holds_what_is_given(tmp_path: Path) -> None:
    done = run("tokenizer", "train", "a.txt", "--vocab-size", "300", "--special", "<s>", "--strict", "--print-config")
    assert done.returncode == 0, done.stderr
    wanted = {"inputs": ["a.txt"], "vocab-size": 300, "special": ["<s>"], "strict": True}
    assert tomllib.loads(done.stdout.decode()) == wanted
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    (tmp_path / "c.toml").write_bytes(done.stdout)
    made = run("tokenizer", "train", "--config", "c.toml", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["output"] == "tokenizer.json"


def test_rerun_makes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    assert run("tokenizer", "train", "a.txt", "-o", "t.json", "--vocab-size", "270", cwd=tmp_path).returncode == 0
    done = run("rerun", tmp_path / "t.json.run.json")
    assert (done.returncode, b"complete already" in done.stderr) == (0, True)
    done = run("rerun", tmp_path / "t.json", "-o", "u.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "u.json").read_bytes() == (tmp_path / "t.json").read_bytes()
    (tmp_path / "a.txt").write_text("other text " * 50)
    changed = run("rerun", tmp_path / "t.json")
    assert (changed.returncode, b"has changed since" in changed.stderr) == (1, True)
    assert run("rerun", tmp_path / "a.txt").returncode == 1
    facts = json.loads((tmp_path / "t.json.run.json").read_text())
    (tmp_path / "p.run.json").write_text(json.dumps({**facts, "argv": ["train.py", "--lr", "1"]}))
    python = run("rerun", tmp_path / "p.run.json")
    assert (python.returncode, b"not made by a command line" in python.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "more", "wanted"),
    [
        ("convert copy in out --dtype bf16", "-o new", "convert copy in new --dtype bf16"),
        ("convert copy --dtype bf16 in out", "-q -o new --force", "convert copy --dtype bf16 in new -q --force"),
        ("convert copy in --dtype=bf16", "--output=new", "convert copy in new --dtype=bf16"),
        ("convert copy --quiet in -- -out", "--output new", "convert copy --quiet in -- new"),
        ("convert dsmoe-baseline 2:4 in out", "-o new", "convert dsmoe-baseline 2:4 in new"),
        ("tokenizer export --to hf t.json", "-o new", "tokenizer export --to hf t.json new"),
        ("convert copy in out", "--force", "convert copy in out --force"),
        ("tokenizer train a.txt -o t.json", "-o u.json", "tokenizer train a.txt -o t.json -o u.json"),
    ],
)
def test_rerun_puts_the_output_where_the_command_takes_it(words: str, more: str, wanted: str) -> None:
    assert _with(build(), words.split(), more.split()) == wanted.split()


def test_rerun_makes_an_argument_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    assert run("tokenizer", "train", "a.txt", "-o", "t.json", "--vocab-size", "270", cwd=tmp_path).returncode == 0
    assert run("tokenizer", "export", "t.json", "out", cwd=tmp_path).returncode == 0
    done = run("rerun", tmp_path / "out", "-o", "again")
    assert done.returncode == 0, done.stderr
    assert b"running: llmtool tokenizer export t.json again" in done.stderr
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (tmp_path / "out" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("words", ["", "tokenizer", "tokenizer train"])
def test_help_is_help(words: str) -> None:
    assert run("help", *words.split()).stdout == run(*words.split(), "--help").stdout


def test_what_comes_next_is_a_command() -> None:
    paths = {command.path for command in tree().walk()}
    given: dict[str, Any] = {
        "inputs": ["a b.txt"], "output": Path("o u t"), "checkpoint": Path("ckpt"), "kind": "2:4",
        "tokenizer": "t.json", "to": "hf", "directory": Path("d"), "form": "bin", "data": ["x"], "file": Path("m.gguf"),
    }  # fmt: skip
    for words in NEXT:
        assert f"llmtool {words}" in paths
        line = after(words.split(), given)
        assert line is None or any(f"{line} ".startswith(f"{path} ") for path in paths - {"llmtool"}), line
        assert after(words.split(), {**given, "dry_run": True}) is None
    assert after(["tokenizer", "train"], {**given, "output": None}) == "llmtool train 'a b.txt'"
    for inputs, named in ((["a", "b", "c"], "a b c"), (["a", "b", "c", "d"], "DATA"), (["-"], "DATA")):
        assert after(["tokenizer", "train"], {"inputs": inputs}) == f"llmtool train {named}"


def test_of_several_processes_one_says_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert (after(["train"], {"output": Path("out")}) is not None) == said


def test_the_keys_of_set_are_those_that_methods_read() -> None:
    pytest.importorskip("torch")
    from llmtool.model import settable

    for row in catalog.METHODS:
        if row.kind == catalog.ARCHITECTURE:
            assert set(row.settings) == set(settable(row.option)), row.name
        if row.kind == catalog.OBJECTIVE:
            said = re.search(r"options: ([\w, -]+)", catalog.attribute(row.kind, row.option).__doc__ or "")
            assert set(row.settings) == set(said[1].split(", ") if said else ()), row.name


def test_the_command_of_each_method_is_there() -> None:
    commands = {command.path.removeprefix("llmtool "): command for command in COMMANDS}
    for row in catalog.METHODS:
        words = row.command.split()
        path = next(path for path in (" ".join(words[:2]), words[0]) if path in commands)
        known = [name for option in commands[path].options for name in option.names]
        assert [word for word in words if word.startswith("--") and word not in known] == [], row.name


def test_a_terminal_is_told_what_is_waited_for(tmp_path: Path) -> None:
    """stdin typed at a terminal, no bar drawn over it."""
    (tmp_path / "a.txt").write_text("low lower lowest " * 50)
    assert run("tokenizer", "train", "a.txt", "-q", cwd=tmp_path).returncode == 0
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "llmtool", "tokenizer", "encode", "tokenizer.json"]
    child = subprocess.Popen(command, cwd=tmp_path, stdin=inner, stdout=subprocess.PIPE, stderr=inner)
    os.close(inner)
    os.write(outer, b"low lower\n\x04")
    out, _ = child.communicate(timeout=PATIENCE)
    said = read_terminal(outer)
    assert child.returncode == 0
    assert b"reading what you type; Ctrl-D" in said
    assert b"encoding" not in said
    assert out.split()


def test_a_table_is_for_a_checkpoint_or_for_new_weights(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    words, table = ("data", "token-experts"), tmp_path / "t"
    assert after(words, {"output": table}) == f"llmtool convert mask CKPT --table {table}"
    given = {"output": table, "model": str(tmp_path)}
    assert after(words, given) == f"llmtool convert mask {tmp_path} --table {table}"
    given = {"output": table, "model": str(config), "tokenizer": "tok.json"}
    wanted = f"llmtool train DATA --model {config} --tokenizer tok.json --set mask_moe.table={table}"
    assert after(words, given) == wanted


def test_what_is_read_stands_under_no_output() -> None:
    for words, option in (("tokenizer trim", "--keep"), ("convert vocab", "--rows")):
        shown = run("help", *words.split()).stdout.decode()
        own = shown[shown.index("\nOptions:") : shown.index("\nOutput:")]
        assert option in own
    shown = run("help", "bench", "kernels").stdout.decode()
    assert "--rows" in shown[shown.index("\nOutput:") :]
    assert b"tokenizer inspect TOK [TEXT] [options]" in run("help", "tokenizer", "inspect").stdout
