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


BESIDE = {  # the command, and what stands beside its output
    f"train text.txt -o paged {TINY} --html paged.html --markdown paged.md": ("paged.html", "paged.md"),
    "tokenizer train text.txt -o curve.json --vocab-size 290 --curve 280,290 --plot curve.png": ("curve.png",),
    "scaling fit log.jsonl -o fitted.json --plot fitted.png --markdown fitted.md": ("fitted.png", "fitted.md"),
    "scaling law runs.csv -o sizes.json --plot sizes.png": ("sizes.png",),
}


@pytest.mark.parametrize("words", BESIDE)
def test_what_stands_beside_a_complete_output_is_made_where_it_is_missing(
    place: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may die, or a disk be full, when the output is whole and its page is not."""
    if "--plot" in words:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(place)
    output = place / words.split(" -o ")[1].split()[0]
    assert invoke(shlex.split(words)) == 0
    held = {path: path.read_bytes() for path in ([output] if output.is_file() else output.rglob("*")) if path.is_file()}
    for name in BESIDE[words]:
        before = (place / name).read_bytes()
        (place / name).unlink()
        assert invoke(shlex.split(words)) == 0
        assert (place / name).read_bytes() == before
    assert all(path.read_bytes() == data for path, data in held.items() if path.name != "run.json")
