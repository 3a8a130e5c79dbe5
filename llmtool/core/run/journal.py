"""Several renames that count as one, whenever the process dies: a journal says what remains to be done.

`.NAME.llmtool-commit` stands beside the output NAME while files that belong together, or a directory and the one it
replaces, are renamed. It is written and synced when all that it names is complete; who finds it later (`recover`) does
the rest. It is locked by whoever works on it, so two writers of one output take turns. Directories need it only where
the file system cannot exchange two names in one step (renameat2 with RENAME_EXCHANGE).
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmtool.core.run.json_file import dumps, parse_json

SCHEMA = "llmtool.commit/1"
_SUFFIX = ".llmtool-commit"
NEXT = ".next"
"""Ending of a directory that is filled step by step until it takes the place of another."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_UNABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
"""What file systems and sandboxes say that do not know RENAME_EXCHANGE."""


def journal_path(output: Path) -> Path:
    """Where the journal of an output stands."""
    return output.with_name(f".{output.name}{_SUFFIX}")


def recover_all(directory: Path) -> None:
    """Finish what killed processes had begun to put in any place of a directory."""
    for path in directory.glob(f".*{_SUFFIX}"):
        if _plain(name := path.name[1 : -len(_SUFFIX)]):
            recover(path.with_name(name))


def stands(output: Path) -> bool:
    """Whether renames of this output are under way, or were broken off."""
    return journal_path(output).is_file()


def rename(source: Path, target: Path) -> None:
    """One name, in one step, on the disk when this returns."""
    source.replace(target)
    sync_directory(target.parent)


def rename_together(pairs: Sequence[tuple[Path, Path]], allowed: Callable[[], None] | None = None) -> None:
    """Rename files of one directory, all or none; the last is the output whose name the journal bears.

    allowed: raises where they may not be; asked when it is this writer's turn, so of two that write to one place at
    once the later finds what the first has put there.
    """
    output = pairs[-1][1]
    with _opened(output) as handle:
        _write(handle, output, {"files": [[source.name, target.name] for source, target in pairs]})
        if allowed:
            allowed()
        _finish(output)


def exchange(work: Path, path: Path) -> None:
    """Put the directory `work` in the place of `path`, and remove what stood there."""
    if not path.exists():
        rename(work, path)
        return
    if _exchange_names(work, path):
        sync_directory(path.parent)
        shutil.rmtree(work, ignore_errors=True)  # now the old one
        return
    old = work.with_suffix(".old")
    with _opened(path) as handle:
        _write(handle, path, {"work": work.name, "old": old.name})
        _finish(path)


def exchange_if(work: Path, path: Path, allowed: Callable[[], None]) -> None:
    """`exchange`, if `allowed` does not raise; what appears behind its back where nothing stood is not replaced."""
    replaces = path.is_dir() and any(path.iterdir())
    allowed()
    if replaces:
        exchange(work, path)
        return
    try:
        rename(work, path)  # onto nothing or an empty directory, and onto nothing else
    except OSError:
        allowed()
        raise


def recover(output: Path) -> bool:
    """Finish what a killed process had begun to put in this place; whether there was anything."""
    output = Path(os.path.realpath(output))
    if not stands(output):
        return False
    try:
        with _opened(output):  # which finishes it
            journal_path(output).unlink(missing_ok=True)
    except PermissionError:  # a reader's; the next writer can
        return False
    return True


def sync_directory(directory: Path) -> None:
    """The names in it are on the disk when this returns."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(handle: int, *, wait: bool = False) -> bool:
    """Whether nobody else held it; the kernel lets go when the process ends, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as if alone
        return True
    return True


@contextmanager
def locked_if_free(path: Path) -> Iterator[None]:
    """Hold the lock of a file or directory; an OSError where somebody else does, or nobody can."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextmanager
def _opened(output: Path) -> Iterator[int]:
    """The journal, locked; what another one left in it is done first. Removed at the end, unless it is still needed."""
    path = journal_path(output)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(handle, wait=True)
            if _is_at(handle, path):  # else the one before has removed it meanwhile
                if not os.fstat(handle).st_size:
                    break
                _finish(output)  # which removes it, so that another one is begun
        except BaseException:  # a handle that stays open keeps its lock, and the next try would wait for ever
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield handle
    except BaseException:
        if not _begun(output, _read(path)):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _write(handle: int, output: Path, facts: dict[str, Any]) -> None:
    data = dumps({"schema": SCHEMA, **facts}).encode()
    while data:
        data = data[os.write(handle, data) :]
    os.fsync(handle)
    sync_directory(output.parent)


def _read(path: Path) -> dict[str, Any]:
    """What is to be done; nothing, where the writing of the journal itself was broken off."""
    try:
        facts = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(facts, dict) and facts.get("schema") == SCHEMA
    return facts if known else {}


def _begun(output: Path, facts: dict[str, Any]) -> bool:
    """Whether some renames are done and others not, so that the journal must stay."""
    pairs = _pairs(output, facts)
    if pairs:
        there = [source.exists() for source, _ in pairs]
        return any(there) and not all(there)
    work, old = _directories(output, facts)
    return bool(work and old and old.exists())


def _finish(output: Path) -> None:
    """Do what the journal says and is not done yet, and remove it."""
    facts = _read(journal_path(output))
    for source, target in _pairs(output, facts):
        if source.exists():
            source.replace(target)
    work, old = _directories(output, facts)
    if work and old:
        if work.exists():
            if output.exists() and not old.exists():
                output.rename(old)
            work.rename(output)
        elif not output.exists() and old.exists():
            old.rename(output)
    sync_directory(output.parent)
    journal_path(output).unlink(missing_ok=True)
    if old:
        shutil.rmtree(old, ignore_errors=True)


def _pairs(output: Path, facts: dict[str, Any]) -> list[tuple[Path, Path]]:
    """Partial files and what they become; only names in the output's own directory, whoever wrote the journal."""
    named = facts.get("files")
    found = []
    for pair in named if isinstance(named, list) else []:
        source, target = pair if isinstance(pair, list) and len(pair) == 2 else ("", "")
        if not (_plain(target) and _is_leftover(source, target, "partial")):
            return []
        found.append((output.with_name(source), output.with_name(target)))
    return found


def _directories(output: Path, facts: dict[str, Any]) -> tuple[Path | None, Path | None]:
    work, old = facts.get("work"), facts.get("old")
    if not (_is_leftover(work, output.name, "(partial|next)") and _is_leftover(old, output.name, "old")):
        return None, None
    return output.with_name(str(work)), output.with_name(str(old))


def _plain(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _is_leftover(name: Any, of: str, ending: str) -> bool:
    return _plain(name) and re.fullmatch(rf"\.{re.escape(of)}\.[a-z0-9_]{{8}}\.{ending}", name) is not None


def _exchange_names(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the file system or the C library cannot."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in _UNABLE:
        raise OSError(number, os.strerror(number), str(other))
    return False
