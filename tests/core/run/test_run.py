"""Errors, TOML settings, extras, manifests, JSON of others, and the console."""

import json
import math
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.config import read_config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.extras import EXTRAS, require
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.manifest import Run, changes, manifest_path
from tests.processes import read_terminal


def test_an_error_is_one_line() -> None:
    error = UserError("two\nlines", where="f.txt:3", hint="mend\nit")
    assert str(error) == "f.txt:3: two lines (mend it)"
    assert str(UserError("plain")) == "plain"
    assert closest("vocab-sze", ["vocab-size", "field"]) == "did you mean 'vocab-size'?"
    assert closest("zzz", ["vocab-size"]) is None


def test_settings_file(write: Callable[..., Path]) -> None:
    known = ["vocab_size", "special", "force"]
    good = write("a.toml", 'vocab-size = 300\nspecial = ["<s>"]\nforce = true\n')
    assert read_config(good, known) == {"vocab_size": 300, "special": ["<s>"], "force": True}
    with pytest.raises(UserError, match=r"unknown key 'vocab_siz' \(did you mean 'vocab-size'\?\)"):
        read_config(write("b.toml", "vocab_siz = 300"), known)
    with pytest.raises(UserError, match="not TOML"):
        read_config(write("c.toml", "vocab_size ="), known)
    with pytest.raises(UserError, match="is a table"):
        read_config(write("d.toml", "[force]\na = 1"), known)
    with pytest.raises(UserError, match="no such file"):
        read_config(Path("nowhere.toml"), known)


def test_extras_are_those_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"all", "dev", "docs"}
    with pytest.raises(UserError, match=r"nosuchmodule is needed to draw \(pip install 'llmtool\[plots\]'\)"):
        require("nosuchmodule.sub", extra="plots", why="to draw")
    assert require("json", extra="plots", why="") is json


def test_manifest(tmp_path: Path) -> None:
    output = tmp_path / "tok.json"
    inputs = [{"path": "a", "sha256": "x"}]
    run = Run("tokenizer train", {"vocab_size": 300, "path": tmp_path}, inputs, seed=1, backend="python")
    with atomic_files() as files:
        files.open(output).write(b"{}")
        run.save(manifest_path(output), [output], files)
    facts = json.loads((tmp_path / "tok.json.run.json").read_text())
    assert facts["schema"] == "llmtool.run/1"
    wanted = {"argv", "config", "seed", "version", "git", "machine", "inputs", "started", "wall_seconds"}
    assert wanted <= set(facts)
    assert facts["outputs"] == [{"path": "tok.json", "bytes": 2}]


def test_changes_are_spelled_as_the_user_does() -> None:
    old = {
        "vocab_size": 300, "text_mode": "file", "strict": False, "special": ["<s>"], "lr": 0.0010, "tokens": "100K",
        "plan": {"steps": 5, "clip": 1.0}, "tokenizer": "a" * 64, "gone": 1, "same": [1, {"a": 2}],
    }  # fmt: skip
    new = {
        "vocab_size": 301, "text_mode": "line", "strict": True, "special": ["<s>", "</s>"], "lr": 2e-5,
        "tokens": "200K", "plan": {"steps": 6, "clip": 1.0}, "tokenizer": "b" * 64, "same": [1, {"a": 2}],
        "seed": None, "new": Path("x"),
    }  # fmt: skip
    assert changes(old, new, {"text_mode": "--documents", "plan.steps": "--steps", "tokenizer": "TOK"}) == [
        "--vocab-size: 300 -> 301",
        "--documents: file -> line",
        "--strict: off -> on",
        "--special: <s> -> <s>, </s>",
        "--lr: 0.001 -> 2e-05",
        "--tokens: 100K -> 200K",
        "--steps: 5 -> 6",
        "TOK: aaaaaaaaaaaa -> bbbbbbbbbbbb",
        "--gone: 1 -> not given",
        "--new: not given -> x",
    ]
    edits: list[object] = [None, 5, [], "x", {}]
    for edited in edits:  # run.json is a file like any other
        assert changes(edited, {"a": 1}) == ["--a: not given -> 1"]


def test_an_option_that_is_newer_than_a_run_had_its_default() -> None:
    old, new = {"lr": 0.1}, {"lr": 0.1, "only": [], "clip": 1.0, "set": {}}
    defaults = {"lr": 0.2, "only": (), "clip": 1.0, "set": {}, "elsewhere": 3}
    assert changes(old, new) == ["--only: not given -> none", "--clip: not given -> 1", "--set: not given -> none"]
    assert changes(old, new, defaults=defaults) == []
    assert changes(old, {**new, "only": ["*"], "clip": 2.0}, {}, defaults) == ["--only: none -> *", "--clip: 1 -> 2"]


def test_json_is_written_without_nan() -> None:
    value = {"a": [math.nan, 1.5, (math.inf, {"b": -math.inf})], "c": "NaN"}
    assert json.loads(dumps(value)) == {"a": [None, 1.5, [None, {"b": None}]], "c": "NaN"}


def test_json_of_others(write: Callable[..., Path]) -> None:
    assert read_json_object(write("a", '{"a": 1}')) == {"a": 1}
    with pytest.raises(UserError, match="line 2, column 1"):
        read_json_object(write("b", '{"a":\n}'))


@pytest.mark.parametrize("term, verbosity, drawn", [("xterm", 0, True), ("dumb", 0, False), ("xterm", -1, False)])
def test_progress_is_drawn_on_terminals_only(term: str, verbosity: int, drawn: bool) -> None:
    """Two bars, one inside the other, as training draws them."""
    code = (
        "import sys\nfrom llmtool.core.run.console import Console\n"
        f"console = Console({verbosity})\n"
        "with console.progress('counting', 100, 'B') as outer, console.progress('merging', 10, 'tokens') as bar:\n"
        "    outer.advance(50); bar.update(5)\n"
    )
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", code], stderr=terminal, check=True, env=environment)
    os.close(terminal)
    shown = read_terminal(main).decode()
    assert ("merging" in shown and "5/10 tokens" in shown) == drawn


def test_tables_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    for verbosity in (-1, 0, 1):
        console = Console(verbosity)
        console.info("info")
        console.detail("detail")
        console.warn("careful")
        console.table("Title", ["name", "value"], [["a", "1"]], note="a note")
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("info") == 2
    assert error.count("detail") == 1
    assert error.count("warning: careful") == 3
    assert error.count("Title") == error.count("a note") == 2
