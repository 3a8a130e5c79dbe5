"""The finished output that another one replaces stands at every moment, in its place or aside."""

from pathlib import Path
from typing import Any

import pytest

from llmtool.core.run.before import BEFORE, Before

OLD = {"begun.json": "old", "run.json": "old", "rows.bin": "old", "work/a/1": "old", "work/2": "old"}


def made(output: Path) -> list[Path]:
    return [path.relative_to(output) for name in ("rows.bin", "work") for path in output.glob(name)]


def write(output: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text)


def held(output: Path) -> dict[str, str]:
    return {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_broken_off_anywhere_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    """begun: the new one was, and is given up; else the old one is put aside."""
    calls = 1
    while True:
        output = tmp_path / str(calls)
        write(output, OLD)
        old = Before(output, "begun.json", made)
        if begun:
            old.put_aside()
            write(output, {"begun.json": "new", "rows.bin": "new", "work/a/1": "new", "work/a/3": "new"})
        left = calls

        def dies(self: Path, *words: Any, real: Any = Path.rename) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return real(self, *words)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dies)
            try:
                old.put_back() if begun else old.put_aside()
            except KeyboardInterrupt:
                pass
            else:
                break
        old.settle()
        assert held(output) == OLD
        calls += 1
    assert calls > 4


def test_an_output_of_another_kind_is_let_alone(tmp_path: Path) -> None:
    write(tmp_path, {"begun.json": "new", f"{BEFORE}/begun.json": "old"})
    Before(tmp_path, "other.json", made).settle()
    assert held(tmp_path) == {"begun.json": "new", f"{BEFORE}/begun.json": "old"}


def test_putting_back_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD)
    old = Before(tmp_path, "begun.json", made)
    old.put_aside()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    old.put_back()
    assert held(tmp_path) == OLD


def test_a_finished_one_lets_the_old_one_go(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    old = Before(tmp_path, "begun.json", made)
    old.put_aside()
    assert old.stands
    new = {"begun.json": "new", "run.json": "new"}
    write(tmp_path, new)
    old.settle()
    assert held(tmp_path) == new
