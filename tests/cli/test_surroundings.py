"""What surrounds a command is not always kind: closed streams, signals, an ASCII locale, no home, few descriptors."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.run.atomic import sweep
from llmtool.core.run.journal import recover
from tests.processes import PATIENCE

LLMTOOL = [sys.executable, "-m", "llmtool"]
TEXT = "old output or new one stands whole\n" * 2000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def run(
    place: Path, *words: str, before: Callable[[], None] | None = None, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*LLMTOOL, *words], cwd=place, env={**os.environ, **(more or {})}, preexec_fn=before,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)  # fmt: skip


def closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


TRAIN = ("tokenizer", "train", "text.txt", "-o", "tok.json", "--vocab-size", "270")


@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_lose_nothing(place: Path, numbers: tuple[int, ...]) -> None:
    """As cron and daemons start things: no file of ours gets a standard stream's number."""
    done = run(place, *TRAIN, before=closed(*numbers))
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    whole = (place / "tok.json").read_bytes()
    run(place, *TRAIN[:4], "again.json", *TRAIN[5:])
    assert whole == (place / "again.json").read_bytes()


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("methods",)], ids=str)
def test_a_full_disk_behind_stdout_is_one_line(place: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*LLMTOOL, *words], cwd=place, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (1, b"error: stdout: no space left on device\n")


def test_a_result_that_nobody_can_read_is_an_error(place: Path) -> None:
    done = run(place, "methods", before=closed(1))
    assert (done.returncode, done.stderr) == (1, b"error: stdout: bad file descriptor\n")
    assert run(place, "methods", before=closed(2)).returncode == 0
    done = run(place, "tokenizer", "train", "-", *TRAIN[3:], before=closed(0))
    assert done.returncode == 1
    assert done.stderr == b"error: -: cannot read: bad file descriptor\n"
    assert not (place / "tok.json").exists()


def test_an_ascii_locale_prints_every_character(place: Path) -> None:
    assert run(place, *TRAIN).returncode == 0
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(place, "tokenizer", "inspect", "tok.json", "né 漢", more=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "漢".encode() in done.stdout or b"\\u6f22" in done.stdout


def test_without_a_home_and_with_a_temporary_directory_that_is_none(place: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "USER", "LOGNAME")}
    for more in ({}, {"HOME": "/nonexistent"}, {"TMPDIR": "/proc"}, {"TMPDIR": "/nonexistent"}):
        (place / "tok.json").unlink(missing_ok=True)
        (place / "tok.json.run.json").unlink(missing_ok=True)
        done = subprocess.run([*LLMTOOL, *TRAIN], cwd=place, env={**environment, **more}, capture_output=True)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


def test_few_open_files_are_enough(place: Path) -> None:
    """A directory of 200 files, with 64 descriptors."""
    (place / "docs").mkdir()
    for number in range(200):
        (place / "docs" / f"{number}.txt").write_text(f"document {number}\n" * 20)
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
    done = run(place, "tokenizer", "train", "docs", *TRAIN[3:], before=few)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    done = run(place, "tokenizer", "encode", "tok.json", "docs", "--format", "bin", "-o", "ids.bin", before=few)
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_at_any_time_is_no_traceback(place: Path, number: signal.Signals) -> None:
    """In the first 50 ms, while modules are imported, and at work; a Ctrl-C comes twice, to the whole group.

    All of the result is there or nothing, once the next start has finished what a journal names and has swept what a
    second Ctrl-C left behind, which ends a process at once; a process may also be ended after its work was done.
    """
    (place / "text.txt").write_text(TEXT * 200)
    kept = {"text.txt"}
    done = kept | {"tok.json", "tok.json.run.json"}
    for delay in (0.01, 0.02, 0.03, 0.04, 0.05, 0.08, 0.15, 0.3, 0.6):
        process = subprocess.Popen([*LLMTOOL, *TRAIN, "--threads", "2"], cwd=place, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
        time.sleep(delay)
        os.killpg(process.pid, number)
        if number == signal.SIGINT:
            time.sleep(0.02)
            if process.poll() is None:
                os.killpg(process.pid, number)
        _, said = process.communicate(timeout=PATIENCE)
        if b"Traceback" in said:  # before the first line of ours the interpreter answers for itself
            assert not re.search(rb'__main__\.py", line \d+, in main\n', said), said.decode()
        else:
            assert process.returncode in (0, 128 + number, -number), said
        recover(place / "tok.json")
        if process.returncode < 0:
            sweep(place)
        left = {path.name for path in place.iterdir()}
        assert left == done or (left == kept and process.returncode != 0)
        for name in left - kept:
            (place / name).unlink()


def test_a_full_temporary_directory_is_passed_over(place: Path) -> None:
    """A file system of its own, filled, where the machine allows one."""
    (place / "full").mkdir()
    words = " ".join([*LLMTOOL, *TRAIN])
    script = (
        f"mount -t tmpfs -o size=64k none full && (head -c 1000000 /dev/zero > full/fill; TMPDIR=$PWD/full {words})"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=place, capture_output=True, text=True)
    if not (place / "tok.json").exists() and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    whole = (place / "tok.json").read_bytes()
    assert run(place, *TRAIN[:4], "again.json", *TRAIN[5:]).returncode == 0
    assert (place / "again.json").read_bytes() == whole


def test_a_signal_to_a_group_of_workers(place: Path) -> None:
    """As a batch system ends a job: no traceback of any of them, nobody is left, and the same command goes on."""
    (place / "rows.jsonl").write_text(
        "".join(f'{{"text": "{line} {n}"}}\n' for n, line in enumerate(TEXT.split("\n") * 20))
    )
    assert run(place, *TRAIN).returncode == 0
    words = [*LLMTOOL, "tokenizer", "encode", "tok.json", "rows.jsonl", "--shards", "70K", "--workers", "2"]
    process = subprocess.Popen([*words, "-o", "out"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)  # fmt: skip
    while process.poll() is None and not list((place / "out").glob("*.done")):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)  # ends when the last of them has let go of the pipes
    assert b"Traceback" not in said, said.decode()
    assert process.returncode in (0, 128 + signal.SIGTERM)  # 0: it was done before this process was let run
    for name in ("out", "whole"):
        done = subprocess.run([*words, "-o", name], cwd=place, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
    arrays = {path.name: path.read_bytes() for path in (place / "whole").glob("*.bin")}
    assert len(arrays) > 10
    assert {path.name: path.read_bytes() for path in (place / "out").glob("*.bin")} == arrays
    assert not list((place / "out").glob(".*"))
