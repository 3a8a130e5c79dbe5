"""Ranks of processes, before any torch is asked."""

from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.core.run.processes import leads, rank_and_size


def test_a_process_alone_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (rank_and_size(), leads()) == ((0, 1), True)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (rank_and_size(), leads()) == ((1, 2), False)


@pytest.mark.parametrize(("rank", "size"), [("1", None), ("5", "1"), ("2", "2"), ("0", "0")])
def test_a_rank_that_cannot_be_is_refused(rank: str, size: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for a leader that does not exist, for ever and without a word."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="unset RANK WORLD_SIZE"):
        rank_and_size()


def test_no_place_to_meet_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from llmtool.core.train.world import World

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT"):
        World()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "no")
    with pytest.raises(UserError, match="MASTER_PORT no"):
        World()


def test_of_several_processes_one_says_that_all_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmtool.cli.app import _say_complete
    from llmtool.core.run.errors import CompleteError

    for rank, objects in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        done = CompleteError(Path("out"))
        done.as_json = True
        _say_complete(done)
        assert capsys.readouterr().out.count("llmtool.complete/1") == objects
