"""Outputs appear whole or not at all."""

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llmtool.core.run import journal
from llmtool.core.run.atomic import (
    atomic_directory,
    atomic_file,
    atomic_files,
    check_output,
    new_directories,
    require_space,
)
from llmtool.core.run.errors import UserError


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "out") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(ValueError), atomic_directory(tmp_path / "dir") as directory:
        (directory / "half").write_bytes(b"half")
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        with atomic_directory(tmp_path / "dir") as directory:
            (directory / content.decode()).write_bytes(content)
    assert os.listdir(tmp_path) == ["dir"]
    assert os.listdir(tmp_path / "dir") == ["2"]


def test_disk_full_is_one_line_and_leaves_the_old_output(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the write fails half way with an OSError."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from llmtool.core.run.atomic import atomic_file\n"
        "from llmtool.core.run.errors import UserError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n"
        "    with atomic_file(Path(sys.argv[1])) as file:\n"
        "        for _ in range(100): file.write(bytes(1000))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "out"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot write: file too large\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_links_are_followed_and_devices_stay(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    with atomic_file(tmp_path / "pipe") as file:
        file.write(b"through")
    assert reader.communicate()[0] == b"through"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "directory").mkdir()
    (tmp_path / "way").symlink_to("directory")
    with atomic_directory(tmp_path / "way") as directory:
        (directory / "a").write_text("a")
    assert (tmp_path / "way").is_symlink()
    assert os.listdir(tmp_path / "directory") == ["a"]


def test_an_exchange_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "precious").write_text("old")

    def interrupted(one: Path, other: Path) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "_exchange_names", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "dir") as directory:
        (directory / "a").write_text("a")
    assert os.listdir(tmp_path) == ["dir"]
    assert os.listdir(tmp_path / "dir") == ["precious"]


def test_an_error_of_the_caller_is_not_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        (tmp_path / "missing").read_bytes()


def test_bad_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"), atomic_file(tmp_path / "no" / "out"):
        pass
    with pytest.raises(UserError, match="is a directory"), atomic_file(tmp_path):
        pass
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="not a directory"), atomic_directory(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(UserError, match="not enough disk space"):
        require_space(tmp_path / "out", 1 << 60)


def test_a_socket_is_no_place_for_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")  # a name of at most 107 bytes
    with pytest.raises(UserError, match="s: is a socket"):
        check_output(Path("s"))


def test_directories_that_were_made_on_the_way_go_again(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for deep in ("old/a/b", "c"):
        with pytest.raises(ZeroDivisionError), new_directories(tmp_path / deep):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["old"]
    with pytest.raises(ZeroDivisionError), new_directories(tmp_path / "d" / "e"):
        (tmp_path / "d" / "kept").touch()
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "d") == ["kept"]
    with new_directories(tmp_path / "f" / "g"):
        pass
    assert (tmp_path / "f" / "g").is_dir()


def test_killed_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    code = (
        "import sys\nfrom pathlib import Path\nfrom llmtool.core.run.atomic import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('half', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert path.read_bytes() == b"old"


def broken_off(path: Path, *beside: str) -> None:
    """Files that belong together, killed when their journal stood and none had its name yet."""

    def killed(output: Path) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(journal, "_finish", killed)
        patched.setattr(journal, "_begun", lambda *_: True)  # a killed process tidies nothing up
        with atomic_files() as files:
            for name in (path.name, *beside):
                files.open(path.with_name(name)).write(b"first")


@pytest.mark.parametrize("swept", [False, True])
def test_a_journal_of_the_dead_does_not_swallow_what_is_written_next(tmp_path: Path, swept: bool) -> None:
    """The new renames went into the old journal, which was gone by then: nothing got its name, without a word."""
    broken_off(tmp_path / "a", "b")
    assert len(os.listdir(tmp_path)) == 3
    for path in tmp_path.glob("*.partial") if swept else ():
        path.unlink()
    with atomic_files() as files:
        for name in ("a", "b"):
            files.open(tmp_path / name).write(b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"second", "b": b"second"}


def test_all_journals_of_a_directory_are_finished(tmp_path: Path) -> None:
    for name in ("a", "c"):
        broken_off(tmp_path / name, f"{name}.beside")
    for odd in ("..llmtool-commit", "...llmtool-commit"):
        (tmp_path / odd).touch()
    journal.recover_all(tmp_path)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.stat().st_size}
    assert found == dict.fromkeys(("a", "a.beside", "c", "c.beside"), b"first")


def test_a_journal_that_cannot_be_finished_fails_every_time(tmp_path: Path) -> None:
    """The handle of the first try stayed open with its lock, and the second one waited for it for ever."""
    broken_off(tmp_path / "a", "b")
    (tmp_path / "b").mkdir()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(3):
        with pytest.raises(OSError, match="b"):
            journal.recover(tmp_path / "a")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("begun", "hint"),
    [
        (None, "free some space; nothing was written"),
        ("settings.json", "free some space; what was made stays, and the same command goes on from there"),
        ("train.json", "free some space; what was made stays, and the same command goes on from there"),
    ],
)
def test_a_full_disk_says_what_stays(tmp_path: Path, begun: str | None, hint: str) -> None:
    if begun:
        (tmp_path / begun).write_text("{}")
    with pytest.raises(UserError, match="no space left") as refused, atomic_file(tmp_path / "00000.text"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (refused.value.hint, refused.value.goes_on) == (hint, begun is not None)
    told = pickle.loads(pickle.dumps(refused.value))  # from a worker
    assert (str(told), told.hint, told.goes_on) == (str(refused.value), hint, begun is not None)
