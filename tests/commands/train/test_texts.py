"""Text is tokenised once, into the run's directory: the ids of memory, found again, replaced when it changes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool import Tokenizer
from llmtool.commands.sources import open_source, parse_sources
from llmtool.commands.train import texts
from llmtool.commands.train.command import train
from llmtool.commands.train.place import check_place
from llmtool.commands.train.texts import Texts
from llmtool.core.corpus import token_files
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.journal import recover
from tests.commands.train.runs import TINY
from tests.processes import PATIENCE

HOSTILE = ["", "\n", "a\n\nb", "é漢\U0001f600" * 50, " " * 300, "x" * 5000, "the cat\n" * 400]


def open_text(corpus: Path, output: Path, path: Path, reading: Reading, **changes: Any) -> Any:
    tokenizer = Tokenizer.load(corpus / "bpe.json")
    return Texts(output, tokenizer, QUIET, 1, None, **changes).open(parse_sources([str(path)])[0], reading)


@pytest.mark.parametrize("reading", [Reading(), Reading(text_mode="line"), Reading(document_separator="\n\n")])
def test_ids_and_documents_are_those_in_memory(corpus: Path, tmp_path: Path, reading: Reading) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    for number, content in enumerate(HOSTILE):
        (folder / f"{number}.txt").write_text(content)
    for path in (folder, corpus / "train.txt", Path(os.__file__).parent / "json"):
        tokenizer = Tokenizer.load(corpus / "bpe.json")
        wanted = open_source(parse_sources([str(path)])[0], tokenizer, QUIET, 1, reading)
        found = open_text(corpus, tmp_path / "out", path, reading)
        assert isinstance(found.ids, np.memmap)
        assert found.ids.dtype == wanted.ids.dtype
        assert np.array_equal(found.ids, wanted.ids)
        assert np.array_equal(found.starts, wanted.starts)
        assert (found.name, found.fingerprint()) == (wanted.name, wanted.fingerprint())


def test_it_is_found_again_and_made_anew_when_the_text_the_reading_or_the_tokenizer_changes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    write = token_files.write_text

    def counted(*arguments: Any) -> None:
        made.append(arguments[2])
        write(*arguments)

    monkeypatch.setattr(texts, "write_text", counted)
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on a mat\n" * 500)
    given: dict[str, Any] = {**TINY, "tokenizer": str(corpus / "bpe.json"), "steps": 2, "holdout": 0.1}
    train([str(text)], tmp_path / "out", **given)
    with pytest.raises(CompleteError):
        train([str(text)], tmp_path / "out", **given)
    assert len(made) == 1
    text.write_text("the cat ran far from home\n" * 500)
    with pytest.raises(UserError, match="the data's content"):
        train([str(text)], tmp_path / "out", **given)
    train([str(text)], tmp_path / "out", **given, force=True)
    assert len(made) == 2
    assert len(list((tmp_path / "out/tokens").iterdir())) == 3  # the old text's are gone
    open_text(corpus, tmp_path / "out", text, Reading(text_mode="line"))
    Tokenizer.train([text], 280).save(tmp_path / "bpe.json")
    open_text(tmp_path, tmp_path / "out", text, Reading(text_mode="line"))
    assert len(set(made)) == 4
    assert train([str(text)], tmp_path / "plan", **given, dry_run=True)["dry_run"]
    assert not (tmp_path / "plan").exists()


def test_a_run_that_fails_later_leaves_the_tokens_for_the_next_try(corpus: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {**TINY, "tokenizer": str(corpus / "bpe.json"), "steps": 2}
    with pytest.raises(UserError, match="torchrun"):
        train([str(corpus / "train.txt")], tmp_path / "out", **given, parallel="fsdp")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tokens"]
    train([str(corpus / "train.txt")], tmp_path / "out", **given)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="no run of training"):
        train([str(corpus / "train.txt")], tmp_path / "mine", **given)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_another_process_waits_for_what_the_leading_one_makes(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from llmtool.core.corpus.reading import Reading\n"
        "from tests.commands.train.test_texts import open_text\n"
        "file = open_text(*map(Path, sys.argv[1:4]), Reading(), leader=False); print(file.fingerprint()['sha256'])"
    )
    words = [str(corpus), str(tmp_path / "out"), str(corpus / "train.txt")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=environment)
    time.sleep(0.5)
    ours = open_text(corpus, tmp_path / "out", corpus / "train.txt", Reading())
    said, _ = other.communicate(timeout=PATIENCE)
    assert said.strip() == ours.fingerprint()["sha256"]


def test_a_kill_while_it_tokenises_leaves_nothing_half(corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("the cat sat on a mat while dogs ran far from home\n" * 100_000)
    output = tmp_path / "out"
    words = [str(text), "-o", str(output), "--tokenizer", str(corpus / "bpe.json"), "--model", "40K", "--length", "32"]
    command = [sys.executable, "-m", "llmtool", "train", *words, "--steps", "1", "--batch", "64", "-q"]
    process = subprocess.Popen(command)
    while process.poll() is None and not list(output.glob("tokens/.*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in list((output / "tokens").glob(".*.llmtool-commit")):  # as the next start does
        recover(path.with_name(path.name[1:].removesuffix(".llmtool-commit")))
    whole = len(list((output / "tokens").glob("long*")))
    assert whole in (0, 3)
    assert subprocess.run(command, check=False).returncode == 0
    assert len(list((output / "tokens").iterdir())) == 3


def test_a_run_is_not_begun_where_its_states_could_not_be_read(tmp_path: Path) -> None:
    """It trained, wrote, and never went on: safetensors opens names of UTF-8 alone."""
    with pytest.raises(UserError, match="not UTF-8"):
        check_place(tmp_path / os.fsdecode(b"m\xf6del"), [], Console())
