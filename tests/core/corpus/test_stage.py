"""A stage that is replaced is somebody's at every moment."""

from pathlib import Path

import pytest

from llmtool.core.corpus.shards import SETTINGS, Stage
from llmtool.core.run.errors import UserError
from tests.core.run.test_atomic import broken_off


def test_the_old_settings_stay_until_the_new_ones_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between, or on a broken disk, it was a directory of files that no stage claims: refused ever after."""
    Stage(tmp_path, {"seed": 1}).begin()
    (tmp_path / "00000.done").touch()
    (tmp_path / "00000.text").touch()

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Stage, "_write", broken)
        with pytest.raises(UserError, match="cannot write: input/output error"):
            Stage(tmp_path, {"seed": 2}).begin(force=True)
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]
    with pytest.raises(UserError, match="was begun with other settings: seed: 1 -> 2"):
        Stage(tmp_path, {"seed": 2}).begin()
    Stage(tmp_path, {"seed": 2}).begin(force=True)
    Stage(tmp_path, {"seed": 2}).begin()


def test_what_a_journal_names_is_finished_and_not_swept(tmp_path: Path) -> None:
    broken_off(tmp_path / "00000.bin", "00000.json")
    Stage(tmp_path, {}).begin()
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != SETTINGS}
    assert found == {"00000.bin": b"first", "00000.json": b"first"}


def test_what_others_write_beside_is_left_alone(tmp_path: Path) -> None:
    broken_off(tmp_path / "00000.bin", "00000.json")
    before = sorted(path.name for path in tmp_path.iterdir())
    Stage(tmp_path, {}).begin(alone=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != SETTINGS) == before


@pytest.mark.parametrize("harm", ["a damaged seal", "a unit cut short", "a marker gone"])
def test_force_makes_again_what_a_reader_refuses(tmp_path: Path, harm: str) -> None:
    """Readers say "run the stage again with --force", which found the stage complete and did nothing."""
    stage = Stage(tmp_path, {"seed": 1})
    stage.begin()
    for unit in range(2):
        stage.path(unit, "text").write_text("whole")
        stage.finish(unit, [stage.path(unit, "text").name], {})
    stage.seal({"units": 2})
    stage.begin(force=True)
    assert stage.complete
    if harm == "a damaged seal":
        (tmp_path / "done.json").write_text((tmp_path / "done.json").read_text().replace("2", "3", 1))
    elif harm == "a unit cut short":
        stage.path(1, "text").write_text("w")
    else:
        stage.path(1, "done").unlink()
    stage.begin(force=True)
    assert not stage.complete
    assert stage.is_done(0)
    assert stage.is_done(1) == (harm == "a damaged seal")
