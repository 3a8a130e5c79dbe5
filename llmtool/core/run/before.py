"""OUT/.before: a finished output that `--force` replaces, until the one in its place is finished too.

For outputs that are made step by step in their own place. The mark is the file that a run writes into OUT before
anything else. It goes to OUT/.before last and comes back first: by it is told what a process that died has left.

    in .before  in OUT
    yes         yes     the new run is under way; with a run.json it is finished, and the old one goes
    yes         no      the new one was not begun, or was given up: what it left goes, the old one is put back
    no          yes     the old one was being moved, either way: it is put back
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from llmtool.core.run.journal import sync_directory

BEFORE, GONE = ".before", ".before.finished.partial"


@dataclass(frozen=True)
class Before:
    """made: names in OUT of what a run has made there, finished or not, but for run.json and the mark."""

    output: Path
    mark: str
    made: Callable[[Path], Iterable[Path]]

    @property
    def stands(self) -> bool:
        """Whether a finished output waits for another one."""
        return (self.output / BEFORE / self.mark).is_file()

    def settle(self) -> None:
        """Put back what was being put aside when a process died, and remove what one that has finished replaced."""
        new = (self.output / self.mark).is_file()
        if not (self.stands or new):  # of another kind of output, if there is any
            return
        if (self.output / GONE).is_dir():
            rmtree(self.output / GONE)
        if not (self.stands and new):
            self.put_back()
        elif (self.output / "run.json").is_file():
            self.drop()

    def put_aside(self) -> bool:
        """Move the finished output in OUT to OUT/.before; whether there was one."""
        if not (self.output / "run.json").is_file():
            return False
        kept = self.output / BEFORE
        kept.mkdir()
        for name in [Path("run.json"), *self.made(self.output), Path(self.mark)]:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (self.output / name).rename(kept / name)
        sync_directory(kept)
        sync_directory(self.output)
        return True

    def put_back(self) -> None:
        """What put_aside moved stands in OUT again, in the place of what a new run has left; run.json last."""
        kept = self.output / BEFORE
        if not kept.is_dir():
            return
        if self.stands:
            (self.output / self.mark).unlink(missing_ok=True)
            self.clear()
            (kept / self.mark).rename(self.output / self.mark)
        for path in sorted(kept.iterdir(), key=lambda path: path.name == "run.json"):
            _move(path, self.output / path.name)
        sync_directory(self.output)
        rmtree(kept)

    def clear(self) -> None:
        """Remove what an unfinished run has left."""
        for name in list(self.made(self.output)):
            path = self.output / name
            rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def drop(self) -> None:
        """The output in OUT is finished: the one before is let go, by a name first that nobody puts back."""
        if (self.output / BEFORE).is_dir():
            rmtree(self.output / GONE, ignore_errors=True)
            (self.output / BEFORE).rename(self.output / GONE)
            sync_directory(self.output)
            rmtree(self.output / GONE, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """By renames alone, for the disk may be full: a directory whole, or into the one that stands there."""
    if source.is_dir() and target.is_dir():
        for path in sorted(source.iterdir()):
            _move(path, target / path.name)
    else:
        source.rename(target)
