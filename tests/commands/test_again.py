"""What `rerun` says of the inputs: nothing of those that are as they were, whatever command read them."""

import shlex
from pathlib import Path

import pytest

from llmtool.commands.rerun import command_of
from llmtool.core.run.manifest import manifest_path
from tests.faults.inputs import write_inputs
from tests.faults.trial import invoke

pytest.importorskip("torch")
TINY = "--length 32 --steps 1 --device cpu --threads 1 --tokenizer ../tok.json --model 40K"
COMMANDS = {  # the command, and what is changed
    "tokenizer train text.txt corpus.jsonl -o t.json --vocab-size 290": "text.txt",
    "tokenizer train many -o u.json --vocab-size 290 --include *.txt --input-format text": "many/deep/b.txt",
    "tokenizer encode ../tok.json many text.txt -o ids.npy": "many/a.txt",
    f"train text.txt -o model {TINY}": "text.txt",
    f"train many -o other {TINY} --include *.txt": "many/a.txt",
    "convert copy model copied": "model/config.json",
    "scaling law runs.csv -o law.json": "runs.csv",
    "scaling fit log.jsonl -o fit.json": "log.jsonl",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("again") / "work"
    (place / "many" / "deep").mkdir(parents=True)
    write_inputs(place)
    for name in ("a.txt", "deep/b.txt", "left_out.md"):
        (place / "many" / name).write_text("the cat sat on a mat while dogs ran far from home\n" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert invoke(shlex.split("tokenizer train text.txt -o ../tok.json --vocab-size 290 -q")) == 0
    return place


@pytest.mark.parametrize("words", COMMANDS)
def test_an_input_that_is_as_it_was_gives_no_warning(place: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert invoke([*shlex.split(words), *(["-q"] if not words.startswith("scaling") else [])]) == 0
    output = words.split(" -o ")[1].split()[0] if " -o " in words else words.split()[-1]
    again = command_of(manifest_path(place / output), ())
    assert [entry["sha256"] for entry in again.made["inputs"]]
    assert not list(again.warnings())
    changed = place / COMMANDS[words]
    held = changed.read_bytes()
    try:
        changed.write_bytes(held + b"\n")
        assert [warning for warning in again.warnings() if "has changed since" in warning]
    finally:
        changed.write_bytes(held)
