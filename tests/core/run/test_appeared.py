"""What appears where an output is to stand while it is being made is never replaced, whoever put it there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.run import journal
from llmtool.core.run.atomic import atomic_directory, atomic_files
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import mark
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_directory, claim_file
from llmtool.core.run.page_blocks import write

Meanwhile = Callable[[], None]


def make_run(**config: object) -> Run:
    return Run("test make", config, [{"path": "in", "sha256": "x"}])


def write_file(output: Path, content: str, meanwhile: Meanwhile, *, force: bool = False) -> None:
    run = make_run(content=content)
    claim_file(output, run, force=force)
    with atomic_files() as files:
        files.open(output).write(content.encode())
        run.save(manifest_path(output), [output], files)
        meanwhile()


def write_directory(output: Path, content: str, meanwhile: Meanwhile, *, force: bool = False) -> None:
    run = make_run(content=content)
    claim_directory(output, run, force=force)
    meanwhile()
    with atomic_directory(output, run.allowed) as work:
        (work / "weights").write_text(content)
        run.save(work / "run.json", [Path("weights")])


def nothing() -> None:
    pass


def put(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")


def held(output: Path) -> str:
    return (output / "weights" if output.is_dir() else output).read_text()


@pytest.mark.parametrize("make", [write_file, write_directory])
def test_the_first_of_two_stays(tmp_path: Path, make: Callable[..., None]) -> None:
    output = tmp_path / "out"
    with pytest.raises(UserError, match="out: exists already, made with other settings: --content: first -> second"):
        make(output, "second", lambda: make(output, "first", nothing))
    assert held(output) == "first"
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "out.run.json"}
    with pytest.raises(CompleteError):  # of two alike the later finds its work done
        make(tmp_path / "same", "one", lambda: make(tmp_path / "same", "one", nothing))
    make(output, "third", lambda: make(output, "second", nothing, force=True), force=True)  # asked for
    assert held(output) == "third"


@pytest.mark.parametrize("force", [False, True])
def test_what_others_put_there_stays(tmp_path: Path, force: bool) -> None:
    file, beside, directory = tmp_path / "file", tmp_path / "beside", tmp_path / "dir"
    with pytest.raises(UserError, match=r"has no run\.json of llmtool.*; it has come there while this was being made"):
        write_file(file, "made", lambda: put(file), force=force)
    assert file.read_text() == "precious"
    assert not manifest_path(file).exists()
    with pytest.raises(UserError, match=r"is not a run\.json"):
        write_file(beside, "made", lambda: put(manifest_path(beside)), force=force)
    assert manifest_path(beside).read_text() == "precious"
    assert not beside.exists()

    with pytest.raises(UserError, match=r"has no run\.json of llmtool"):
        write_directory(directory, "made", lambda: put(directory / "thesis"), force=force)
    assert os.listdir(directory) == ["thesis"]
    assert sorted(os.listdir(tmp_path)) == ["beside.run.json", "dir", "file"]


def test_what_appears_behind_the_last_question_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory is renamed onto nothing or an empty one, which the system itself holds."""
    output, rename = tmp_path / "out", journal.rename

    def late(source: Path, target: Path) -> None:
        if source.is_dir():
            target.mkdir()
            (target / "thesis").write_text("precious")
        rename(source, target)

    monkeypatch.setattr(journal, "rename", late)
    with pytest.raises(UserError, match="exists already"):
        write_directory(output, "made", nothing)
    assert os.listdir(output) == ["thesis"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_page_or_a_figure_takes_the_place_of_its_like_only(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write(path, f"<!-- {mark()} -->")
    write(path, f"<!-- {mark()} --> again")
    put(path)
    with pytest.raises(UserError, match=r"page\.html: exists already, and is no page of llmtool"):
        write(path, f"<!-- {mark()} -->")
    assert path.read_text() == "precious"


def test_an_empty_directory_and_an_empty_file_are_free(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    write_directory(tmp_path / "dir", "made", nothing)
    write_file(tmp_path / "file", "made", lambda: (tmp_path / "file").touch())
    assert held(tmp_path / "dir") == held(tmp_path / "file") == "made"
