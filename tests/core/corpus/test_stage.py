"""A stage that is replaced is somebody's at every moment."""

from pathlib import Path

import pytest

from llmtool.core.corpus.shards import SETTINGS, Stage
from llmtool.core.run.errors import UserError


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
