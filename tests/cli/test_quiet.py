"""-q is taken by every command that reads or makes something, and leaves errors and warnings of what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

from llmtool.cli.surface import tree

NOTHING_TO_SAY = ("methods", "doctor", "completions", "help")
"""They print what is asked for from what is installed: there is no progress, and no note."""
PASSED_ON = ("rerun",)
"""Its words are those of the command that it runs; see below."""
LEAVES = {
    c.path.removeprefix("llmtool "): {n for o in c.options for n in o.names} for c in tree().walk() if not c.commands
}


def llmtool(*words: str, at: Path) -> tuple[str, str]:
    made = subprocess.run([sys.executable, "-m", "llmtool", *words], capture_output=True, text=True, check=True, cwd=at)
    return made.stdout, made.stderr


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_takes_it(name: str) -> None:
    assert ({"-q", "--quiet"} <= LEAVES[name]) == (name not in (*NOTHING_TO_SAY, *PASSED_ON))


@pytest.mark.parametrize("words", ["methods", "doctor", "completions bash", "help train"])
def test_those_without_it_say_nothing_but_their_result(words: str, tmp_path: Path) -> None:
    result, said = llmtool(*words.split(), at=tmp_path)
    assert result
    assert not said


def test_nothing_is_said(tmp_path: Path) -> None:
    """What was said of work that was complete already, and of what a rerun runs, could not be silenced."""
    sizes = [(n, d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28) for n in (1e7, 4e7, 2e8) for d in (1e9, 5e9, 2e10, 1e11)]
    rows = "".join(f"{n:.0f},{d:.0f},{loss}\n" for n, d, loss in sizes)
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n" + rows)
    (tmp_path / "text.txt").write_text("old and new, old or new " * 20)
    llmtool("tokenizer", "train", "text.txt", "--vocab-size", "262", "-q", at=tmp_path)
    llmtool("tokenizer", "encode", "tokenizer.json", "text.txt", "-o", "ids.txt", "-q", at=tmp_path)
    for command in (
        "tokenizer decode tokenizer.json ids.txt -o back.txt", "scaling law runs.csv -o law.json --bootstrap 0",
    ):  # fmt: skip
        llmtool(*command.split(), at=tmp_path)
        assert "complete already" in llmtool(*command.split(), at=tmp_path)[1]
        assert llmtool(*command.split(), "-q", at=tmp_path) == ("", "")
    (tmp_path / "quiet.toml").write_text("quiet = true\n")  # as where the flag is typed
    assert llmtool(*command.split(), "--config", "quiet.toml", at=tmp_path) == ("", "")
    assert "running: " in llmtool("rerun", "back.txt", at=tmp_path)[1]
    assert llmtool("rerun", "back.txt", "-q", at=tmp_path) == ("", "")
