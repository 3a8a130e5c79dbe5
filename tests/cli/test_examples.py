"""Every help page's examples, walked in order in one directory; what they need is made here, what they write is kept.

In this process: a start is half a second, and there are a hundred of them. What takes minutes, or a GPU, is read only.
"""

import contextlib
import io
import json
import random
import re
import shlex
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmtool.cli.app import build
from llmtool.cli.help import page
from llmtool.cli.pages import links, pages
from llmtool.cli.surface import tree
from llmtool.core.bpe import engine

READ_ONLY = {
    "llmtool bench kernels --plot figures": "every op takes minutes",
    "llmtool bench compile --check": "every kernel takes minutes",
    "llmtool bench device": "five minutes by its default",
    "llmtool bench device --parts env,ops --budget 60": "a minute",
    "llmtool bench machine": "fills the memory bus for seconds",
    "llmtool bench machine --cpu": "fills the memory bus for seconds",
    "llmtool bench tokenizer corpus.jsonl": "wants 100 MB of text",
    "llmtool bench tokenizer corpus.jsonl --task train --repeats 1": "wants 100 MB of text",
    "source <(llmtool completions bash)": "a shell's own",
}
LACKING = [name for name in ("gguf", "transformers") if find_spec(name) is None]
"""What the conversion of a GGUF file, and the file that is made for it, want."""
WORDS = "the cat sat on a mat while dogs ran far from home and birds sang songs of light rain once upon time"


def examples() -> list[str]:
    """Every command line that a page shows, each once."""
    return [*dict.fromkeys(example.command for found in pages().values() for example in found.examples)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, instruction data, logs, runs, a GGUF file."""
    folder = tmp_path_factory.mktemp("walk")
    draw = random.Random(0)

    def text(sentences: int) -> str:
        return " ".join(" ".join(draw.choices(WORDS.split(), k=9)).capitalize() + "." for _ in range(sentences))

    def rows(name: str, objects: list[dict[str, object]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in objects))

    rows("corpus.jsonl", [{"id": n, "text": text(40)} for n in range(60)])
    rows("held_out.jsonl", [{"text": text(30) + " quizzically numismatic ephemera" * 3} for _ in range(8)])
    turns = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On the mat."}]
    rows("chat.jsonl", [{"messages": turns} for _ in range(30)])
    for name, floor in (("log", 2.0), ("log_b", 1.9)):
        rows(f"{name}.jsonl", [
            {"step": 10 * n, "loss": floor + 3 * (10 * n) ** -0.3 + draw.gauss(0, 0.005), "lr": 1e-3}
            for n in range(1, 151)
        ])  # fmt: skip
    steps = range(10, 401, 10)
    rows("positions.jsonl", [
        {"schema": "llmtool.metrics/1", "step": step, "tokens": step * 512, "lr": 1e-3, "loss": 3.0,
         "eval": {"web": {"loss": 3.0, "positions": [2 + 4 * step**-0.3 + 2 / (p + 1) ** 0.5 for p in range(64)]}}}
        for step in steps
    ])  # fmt: skip
    sizes = [(n, d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28) for n in (1e7, 4e7, 2e8) for d in (1e9, 5e9, 2e10, 1e11)]
    (folder / "runs.csv").write_text("params,tokens,loss\n" + "".join(f"{n:.0f},{d:.0f},{x}\n" for n, d, x in sizes))
    (folder / "line.txt").write_text("The cat sat on a mat.\n")
    if not LACKING:
        from tests.core.checkpoint.test_gguf import FAMILIES, write
        from tests.core.model.families import save

        kind, changes = FAMILIES["llama"]
        save(folder / "stock", kind, **changes)
        write(folder / "small.gguf", folder / "stock", "llama")
    return folder


def run(command: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of one command line."""
    words = shlex.split(command.partition(" > ")[0])[1:]
    program, sys.argv = sys.argv, ["llmtool", *words]
    err, status = io.StringIO(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:  # bytes are written to its descriptor
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                build()(words, prog_name="llmtool")
        except SystemExit as ended:
            status = int(str(ended.code or 0))
        finally:
            sys.argv = program
        out.seek(0)
        return status, out.read(), err.getvalue()


@pytest.mark.skipif(engine.NAME != "native", reason="the portable engine takes minutes")
@pytest.mark.slow
def test_every_example_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the pages; what lacks a file that a later page makes is tried again behind it."""
    monkeypatch.chdir(place)
    rest = [command for command in examples() if command not in READ_ONLY and not (LACKING and ".gguf" in command)]
    while rest:
        failed = {}
        for command in rest:
            status, _, err = run(command)
            if status:
                failed[command] = f"{status}: {err[-300:]}"
        assert len(failed) < len(rest), "\n".join(f"{command}\n    {said}" for command, said in failed.items())
        rest = [*failed]


def test_every_page_has_two_examples_and_fits() -> None:
    found = pages()
    assert {command.path for command in tree().walk()} == found.keys()
    for command in tree().walk():
        shown = found[command.path].examples
        assert len(shown) >= 2, command.path
        if not command.commands:
            assert all(f"{command.path} " in f"{each.command} " for each in shown), command.path
        for columns in (60, 80):
            text = page(command, columns)
            assert max(map(len, text.splitlines())) <= max(columns, *map(widest_word, text.splitlines())), command.path
            assert "..." not in re.sub(r"[\w\]]\.\.\.|COMMAND \.\.\.|rows=4096,\.\.\.|[,n]\.\.\.", "", text), (
                command.path
            )
            for option in command.options:
                assert option.help.split()[0] in text
        assert all(link.rpartition("/")[0].endswith("https://arxiv.org/abs") for link in links(found[command.path]))


def widest_word(line: str) -> int:
    return len(line) - len(line.lstrip()) + max(map(len, line.split()), default=0)
