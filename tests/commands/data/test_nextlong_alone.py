"""Two processes in one directory: the second is told so, and the first, innocent, is not disturbed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool.commands import data
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.alone import alone
from llmtool.core.run.atomic import explained
from llmtool.core.run.errors import UserError
from tests.commands.data.nextlong import TARGET, files, make


def test_a_second_process_is_told_and_undoes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtool.methods.nextlong import stages

    chunk, said = stages.chunk, []

    def twice(*words: Any, **more: Any) -> Any:
        for _ in range(2):
            with pytest.raises(UserError, match="another process is working there") as refused:
                make(place, "at_once")
            said.append(str(refused.value))
        return chunk(*words, **more)

    monkeypatch.setattr(stages, "chunk", twice)
    output = make(place, "at_once")
    monkeypatch.undo()
    assert len(said) == 2
    assert files(output) == files(make(place, "base"))


@pytest.mark.parametrize("stage", ["chunk", "embed", "index", "mine", "assemble", "nextlong"])
def test_each_stage_has_its_work_directory_alone(place: Path, stage: str) -> None:
    work = place / "held"
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "workers": 1}
    corpus = [str(place / "corpus.jsonl")]
    if not work.exists():
        data.chunk(corpus, work, size=1024, source_field="kind", workers=1)
    runs: dict[str, Callable[[], Any]] = {
        "chunk": lambda: data.chunk(corpus, work, size=1024, source_field="kind", workers=1),
        "embed": lambda: data.embed(work, workers=1),
        "index": lambda: data.index(work),
        "mine": lambda: data.mine(work, **settings),
        "assemble": lambda: data.assemble(work, place / "never", **settings),
        "nextlong": lambda: data.nextlong(corpus, place / "never", work=work, size=1024, **settings),
    }
    with alone(work), pytest.raises(UserError, match=r"held: another process is working there"):
        runs[stage]()
    assert not (place / "never").exists()


def test_a_directory_that_the_one_before_took_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmtool.core.run import journal

    lock, place = journal.lock, tmp_path / "out"
    place.mkdir()

    def late(handle: int) -> bool:
        monkeypatch.setattr(journal, "lock", lock)
        place.rmdir()
        return lock(handle)

    monkeypatch.setattr(journal, "lock", late)
    with alone(place):
        assert place.is_dir()
        with pytest.raises(UserError, match="another process"), alone(place):
            pass
    with alone(place):
        pass


@pytest.mark.parametrize(("done", "stays"), [(0, False), (1, True)])
def test_a_full_disk_leaves_what_was_made(place: Path, monkeypatch: pytest.MonkeyPatch, done: int, stays: bool) -> None:
    """What a stage has finished is gone on with; where nothing is, nothing stays, and each is said."""
    from llmtool.methods.nextlong import stages

    output = place / f"full{done}"

    def full(*words: Any, **more: Any) -> Any:
        stage = Stage(output / "work" / "chunks", {})
        stage.begin()
        if done:
            stage.finish(0, [], {})
        with explained(stage.directory / "00001.text"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stages, "chunk", full)
    with pytest.raises(UserError, match="what was made stays" if stays else "nothing was written"):
        make(place, output.name)
    assert output.exists() == stays
