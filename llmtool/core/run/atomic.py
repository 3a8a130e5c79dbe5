"""Outputs appear whole or not at all: written beside their place, synced, renamed.

    with atomic_file(path) as file: ...              one file
    with atomic_files() as files:                    several that belong together, a manifest among them
        ids, about = files.open(path), files.open(beside)
    with atomic_directory(path) as work: ...         a directory, exchanged whole

What is being written is called `.NAME.xxxxxxxx.partial` and locked by its writer, so the next start can tell what the
dead have left (`sweep`). A link is followed. A pipe, a device or /dev/stdout has no whole to wait for and is written
to as it is. Whether a place may be written to at all is the matter of outputs.py.
"""

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from llmtool.core.run import journal
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.numbers import whole
from llmtool.core.run.wording import size

PARTIAL = ".partial"
STDOUT = Path("-")
BEGUN = ("settings.json", "train.json")
"""Files that stand where work was begun which the same command goes on with: a stage's, a run's."""
NOTHING, STAYS = "nothing was written", "what was made stays, and the same command goes on from there"
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.(partial|old)", re.DOTALL)
_OPEN_FILE = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd/(\d+)")


class Files:
    """Files that appear together, each where `open` was told; the first one is the output, the others belong to it."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._streams = ExitStack()
        self.main: Path | None = None
        self.through = False
        """Whether the output is a pipe or a device, beside which nothing can stand."""
        self.allowed: Callable[[], None] | None = None
        """Raises where the places may not be written to any more; asked right before the renames."""

    def open(self, path: Path) -> IO[bytes]:
        """A binary file that becomes `path` when the block ends well."""
        self.main = self.main or path
        if (stream := open_stream(path)) is not None:
            self.through = self.main == path
            return self._streams.enter_context(stream)
        path = check_output(path)
        with explained(path):
            part = _Part.begin(path)
        self._parts.append(part)
        return part.file

    def sizes(self) -> dict[str, int]:
        """Bytes written so far, by the file's name."""
        return {part.path.name: part.size() for part in self._parts}

    def commit(self) -> None:
        """Sync, then rename; several files by a journal, so that nobody is left with half of them."""
        self._streams.close()
        if not self._parts:
            return
        for part in self._parts:
            with explained(part.path):
                part.sync()
        first, *beside = self._parts
        if self.allowed:
            self.allowed()
        with explained(first.path):
            here = [part for part in beside if part.path.parent == first.path.parent]
            for part in beside:
                if part not in here:  # beside a link, while the file is where the link leads
                    part.place.replace(part.path)
                    journal.sync_directory(part.path.parent)
            pairs = [(part.place, part.path) for part in [*here, first]]
            journal.rename_together(pairs, self.allowed) if here else journal.rename(*pairs[0])
        self.discard()

    def discard(self) -> None:
        """Let go of what has not become anything."""
        for part in self._parts:
            part.close()
            if part.place.exists() and not journal.stands(self._parts[0].path):  # what a journal names is still needed
                with suppress(OSError):  # the next start sweeps
                    part.place.unlink()
        self._parts.clear()
        with suppress(OSError):
            self._streams.close()


@dataclass
class _Part:
    """A file on its way: written at `place`, to become `path`."""

    file: IO[bytes]
    place: Path
    path: Path

    @classmethod
    def begin(cls, path: Path) -> "_Part":
        from tempfile import mkstemp  # 2 ms of a start: what goes to stdout needs none

        while True:
            handle, name = mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
            if journal.lock(handle) and os.fstat(handle).st_nlink:  # else `sweep` of another took it for a dead one's
                return cls(os.fdopen(handle, "wb"), Path(name), path)
            os.close(handle)

    def size(self) -> int:
        """Bytes written, wherever the file stands: numpy's header is filled in last."""
        with explained(self.path):
            place = self.file.tell()
            end = self.file.seek(0, os.SEEK_END)
            self.file.seek(place)
        return end

    def sync(self) -> None:
        self.file.flush()
        os.fchmod(self.file.fileno(), _mode(self.path, 0o666))
        os.fsync(self.file.fileno())

    def close(self) -> None:
        with suppress(OSError):  # on a full disk what is buffered still cannot be written
            self.file.close()


@contextmanager
def atomic_files() -> Iterator[Files]:
    """Files that appear together when the block ends well, and vanish when it does not."""
    files = Files()
    try:
        try:
            yield files
        except OSError as error:
            if files.main is None or not _is_writing(error, [part.place for part in files._parts]):
                raise
            with explained(files.main):
                raise
        files.commit()
    except BaseException:
        files.discard()
        raise


@contextmanager
def atomic_file(path: Path, allowed: Callable[[], None] | None = None) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it does not.

    allowed: raises where it may not; asked right before.
    """
    with atomic_files() as files:
        files.allowed = allowed
        yield files.open(path)


@contextmanager
def atomic_directory(path: Path, allowed: Callable[[], None] | None = None) -> Iterator[Path]:
    """A directory that becomes `path` when the block ends well; an existing one is replaced only then, and whole.

    allowed: raises where it may not; asked right before.
    """
    path = check_directory(path)
    with explained(path):
        work, handle = _begin_directory(path)
    try:
        try:
            yield work
        except OSError as error:
            if not _is_writing(error, [work]):
                raise
            with explained(path):
                raise
        put_directory(work, path, allowed)
    except BaseException:
        if not journal.stands(path):
            shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def put_directory(work: Path, path: Path, allowed: Callable[[], None] | None = None) -> None:
    """Put a directory that is whole in the place of `path`, in one step; `.PATH.xxxxxxxx.partial` or `.next`."""
    with explained(path):
        _keep_modes(work, path)
        sync_tree(work)
        if allowed:
            journal.exchange_if(work, path, allowed)
        else:
            journal.exchange(work, path)


def _begin_directory(path: Path) -> tuple[Path, int]:
    from tempfile import mkdtemp

    while True:
        work = Path(mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
        try:
            handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # swept before it could be locked
            continue
        if journal.lock(handle) and work.exists():
            return work, handle
        os.close(handle)


@dataclass(frozen=True)
class Swept:
    """What dead processes had left."""

    number: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        """A line for people."""
        what = "an unfinished output" if self.number == 1 else f"{self.number:,} unfinished outputs"
        return f"removed {what} of runs that were killed ({size(self.bytes)})"


def sweep(directory: Path, names: Collection[str] | None = None) -> Swept:
    """Remove what killed writers of these names (of all, in a directory that is ours) have left there.

    A living writer holds a lock on its own, wherever it runs; what a journal names is needed and stays.
    """
    number = taken = 0
    for entry in os.scandir(directory) if directory.is_dir() else ():
        found = _LEFTOVER.fullmatch(entry.name)
        if found is None or (names is not None and found["name"] not in names):
            continue
        place = Path(entry.path)
        if journal.stands(place.with_name(found["name"])):
            continue
        with suppress(OSError), journal.locked_if_free(place):
            files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
            held = sum(file.lstat().st_size for file in files)
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            number, taken = number + 1, taken + held
    return Swept(number, taken)


def require_space(path: Path, wanted: int) -> None:
    """Refuse a long write that the disk cannot hold."""
    parent = Path(path).absolute().parent
    if parent.is_dir() and (free := shutil.disk_usage(parent).free) < wanted:
        raise UserError(
            f"not enough disk space: about {size(wanted)} needed, {size(free)} free",
            where=str(path),
            hint="free some space or write elsewhere",
        )


@contextmanager
def new_directories(path: Path) -> Iterator[None]:
    """A directory and those above it; where the block fails, those of them that are new and hold nothing go again."""
    new = [place for place in (path, *path.parents) if not place.exists()]
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for place in new:
            with suppress(OSError):  # it holds something
                place.rmdir()
        raise


def open_stream(path: Path) -> IO[bytes] | None:
    """A pipe, a device, or a file that this process has open already (/dev/stdout); None for anything else."""
    with explained(path):
        if (number := _descriptor(path)) is not None:
            return os.fdopen(os.dup(number), "wb")  # opened anew, a file would be cut to nothing
        return path.open("wb") if is_stream(path) else None


def is_stream(path: Path) -> bool:
    """Whether what is written there goes through, so that nothing stays to be found again."""
    return _descriptor(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


def _descriptor(path: Path) -> int | None:
    """The number of /dev/stdout, /dev/fd/3 and the like; - is stdout."""
    if path == STDOUT:
        return 1
    for _ in range(40):
        path = Path(os.path.realpath(path.parent)) / path.name
        if (found := _OPEN_FILE.fullmatch(str(path))) and found[1] == str(os.getpid()):
            return whole(found[2], "descriptor")
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def check_output(path: Path) -> Path:
    """Where a file can be written, links followed; refused before any work where it cannot."""
    if path.is_socket():
        raise UserError("is a socket", where=str(path), hint="name a file")
    if is_stream(path):
        return path
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise UserError("is a directory", where=str(path), hint="name a file")
    _require_parent(path)
    return path


def check_directory(path: Path) -> Path:
    """Where a directory can be written, links followed."""
    refuse_stdout(path)
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise UserError("not a directory", where=str(path), hint="name another place")
    if path.is_mount():
        raise UserError("a disk is mounted there, which cannot be replaced", where=str(path), hint="name a place in it")
    _require_parent(path)
    return path


def refuse_stdout(directory: Path) -> None:
    """Refuse - where a directory is written."""
    if directory == STDOUT:
        raise UserError("- is standard output, and this writes a directory", hint="name a directory")


def sync_tree(directory: Path) -> None:
    """Everything below is on the disk, names included, when this returns."""
    for place, _, names in os.walk(directory):
        for name in names:
            if (file := Path(place) / name).is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        journal.sync_directory(Path(place))


def _keep_modes(work: Path, path: Path) -> None:
    """The mode bits of what is replaced, file by file; what is new gets those of the umask."""
    work.chmod(_mode(path, 0o777))
    for file in work.rglob("*"):
        if (old := path / file.relative_to(work)).is_file() and file.is_file() and not old.is_symlink():
            file.chmod(_mode(old, 0o666))


def _mode(path: Path, fresh: int) -> int:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else fresh & ~_umask()


def _require_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UserError("the directory to write into does not exist", where=str(parent), hint=f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError("cannot write: permission denied", where=str(parent))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_writing(error: OSError, places: Collection[Path]) -> bool:
    """An error in the caller's block without a file name comes from writing; one with another's is the caller's own."""
    if isinstance(error, BrokenPipeError):
        return False
    name = error.filename
    return name is None or (isinstance(name, str) and any(Path(name).is_relative_to(place) for place in places))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Whatever fails inside, the output cannot be written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        begun = any((folder / name).is_file() for folder in (path, path.parent) for name in BEGUN)
        hint = f"free some space; {STAYS if begun else NOTHING}" if full else None
        if journal.stands(path):
            hint = "the same command again finishes what was begun"
        refused = UserError(f"cannot write: {explain_os_error(error)}", where=str(path), hint=hint)
        refused.goes_on = full and begun
        raise refused from error
