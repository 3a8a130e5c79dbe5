"""`--force` with a stage by itself: the old one stands, and is read, until the new one is whole."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool.commands import data
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong.store import Store
from tests.commands.data.nextlong import TARGET
from tests.commands.data.test_nextlong_force import Died, all_files, dies

CHANGES: dict[str, dict[str, Any]] = {
    "chunk": {"size": 2048}, "embed": {"seed": 1}, "index": {"seed": 1}, "copies": {"dedupe": "exact"},
}  # fmt: skip


def stage(place: Path, work: Path, name: str, **settings: Any) -> None:
    if name == "chunk":
        data.chunk([str(place / "corpus.jsonl")], work, **{"size": 1024, "workers": 1, **settings})
    else:
        verb: Callable[..., Any] = {"embed": data.embed, "index": data.index, "copies": data.index}[name]
        verb(work, workers=1, **settings)


@pytest.fixture
def work(place: Path, tmp_path: Path) -> Path:
    for name in ("chunk", "embed", "index"):
        stage(place, tmp_path / "work", name)
    return tmp_path / "work"


def mine(place: Path, work: Path) -> None:
    data.mine(work, tokenizer=str(place / "tok.json"), target=TARGET, workers=1)


def visible(work: Path) -> dict[str, bytes]:
    return {name: text for name, text in all_files(work).items() if not name.startswith(".")}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("where", ["_write", "seal"])
def test_the_old_stage_stays_until_the_new_one_is_whole(
    place: Path, work: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """Killed at the first file of it and at its seal; what was begun is gone on with, and nothing is left beside it."""
    old = all_files(work)
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(Stage, where, dies)
            stage(place, work, name, **CHANGES[name], force=True)
        assert visible(work) == old
        mine(place, work)  # the old one is read
        old = visible(work)
    stage(place, work, name, **CHANGES[name], force=True)
    fresh = work.with_name("fresh")
    for each in ("chunk", "embed", "index"):
        stage(place, fresh, each, **(CHANGES[name] if name in (each, "copies" if each == "index" else "") else {}))
        if name == each:
            break
    new = {part: text for part, text in all_files(work).items() if part in all_files(fresh)}
    changed = {"chunk": "chunks/", "embed": "vectors/", "index": "index/", "copies": "copies/"}[name]
    found = {part: text for part, text in all_files(fresh).items() if part.startswith(changed)}
    assert {part: text for part, text in new.items() if part.startswith(changed)} == found
    assert not [path for path in work.rglob("*") if path.name.startswith(".")]


def test_a_finished_unit_is_not_made_again(place: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtool.methods.nextlong import stages

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Stage, "seal", dies)
        stage(place, work, "embed", seed=1, force=True)
    monkeypatch.setattr(stages, "embed_unit", dies)
    stage(place, work, "embed", seed=1, force=True)


def test_copies_and_index_change_together(place: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New copies beside an index over the old ones would be mined from."""
    from llmtool.methods.nextlong import indexing

    old = all_files(work)
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(indexing, "build", dies)
        stage(place, work, "index", dedupe="exact", force=True)
    assert visible(work) == old


@pytest.mark.parametrize("name", ["chunk", "embed"])
def test_what_was_made_from_another_is_refused(place: Path, work: Path, name: str) -> None:
    """It was mined with new vectors under the old index's name, and an old index of other chunks read."""
    stage(place, work, name, **CHANGES[name], force=True)
    with pytest.raises(UserError, match=r"was made from other (chunks|vectors)"):
        mine(place, work)
    for each in ("embed", "index"):
        stage(place, work, each, **(CHANGES[name] if name == each else {}), force=True)
    mine(place, work)


def test_a_file_of_somebody_else_is_not_replaced(place: Path, work: Path) -> None:
    (work / "vectors" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'notes\.txt'"):
        stage(place, work, "embed", seed=1, force=True)
    assert (work / "vectors" / "notes.txt").read_text() == "mine"


def test_what_fails_leaves_the_old_one_and_nothing_else(place: Path, work: Path) -> None:
    old = all_files(work)
    (place / "empty.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(UserError, match="no text found"):
        data.chunk([str(place / "empty.jsonl")], work, size=1024, workers=1, force=True)
    assert all_files(work) == old


def test_chunks_of_a_pipe_stay_until_it_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")

    def chunk(word: str) -> None:
        row = json.dumps({"text": f"{word} " * 50}).encode() + b"\n"
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(row,))
        writer.start()
        try:
            data.chunk([str(tmp_path / "pipe")], tmp_path / "work", workers=1)
        finally:
            writer.join()

    chunk("alpha")
    for where in ("finish", "seal"):
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(Stage, where, dies)
            chunk("omega")
        assert Store(tmp_path / "work").text(0).startswith(b"alpha")
    chunk("omega")
    assert Store(tmp_path / "work").text(0).startswith(b"omega")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["chunks"]
