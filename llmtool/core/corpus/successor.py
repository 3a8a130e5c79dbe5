"""A stage in the place of another one, which stands until the new one is whole.

    place = Place(directory, settings)
    stage = place.begin(force=force, alone=alone)     # `directory`, or what is to become it
    ...                                               # units, by any number of processes
    with place.ending(stage) as stage:                # one process at a time
        ...                                           # seal it, write its run.json: then it is exchanged

What is to replace NAME is made in `.NAME.xxxxxxxx.next` beside it, by the settings' fingerprint: every process of the
same settings finds it, and so does the same command after it was killed. The two are exchanged in one step; what is
called so afterwards is the old one, and goes.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmtool.core.corpus.shards import SETTINGS, Stage
from llmtool.core.run import journal
from llmtool.core.run.atomic import check_directory, put_directory, refuse_stdout
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.outputs import tidy

NEXT = journal.NEXT


class Place:
    """Where a stage is to stand.

    known: whether a file of this name is of such a stage; one that is not is never replaced along with it. spelled: as
    for Stage. last: the file that is written last, behind the seal or as it.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], known: Callable[[str], bool], console: Console = QUIET,
        spelled: Mapping[str, str] | None = None, last: str = "run.json",
    ) -> None:  # fmt: skip
        refuse_stdout(directory)
        self.last = last
        self.stage, self.known, self.console = Stage(directory, settings, spelled=spelled), known, console
        real = directory.resolve()
        self._next = Stage(real.with_name(f".{real.name}.{self.stage.fingerprint[:8]}{NEXT}"), settings)

    def begin(self, *, force: bool = False, alone: bool = True, again: bool = False) -> Stage:
        """The stage to work in; other settings than those of what stands are refused, or replace it with `force`.

        alone: no other process works on this place now. again: what stands is replaced by one of the same settings.
        """
        place = self.stage.directory.resolve()
        if place.parent.is_dir() and alone:
            tidy(place, [place], self.console)
        replacing = (self.stage.directory / SETTINGS).exists() and self._replaces(force, again)
        for other in self._begun() if alone else ():
            if not replacing and other != self._next.directory:  # it may be wanted yet
                self.console.info(f"{other}: begun with --force and not finished; remove it, or finish it")
            elif not replacing or other != self._next.directory:  # what was replaced, or what is no longer wanted
                shutil.rmtree(other, ignore_errors=True)
        if not replacing:
            self.stage.begin(force=force, alone=alone)
            return self.stage
        check_directory(place)
        self._refuse_others()
        self.console.info(f"{self.stage.directory}: stays as it is until the new one is whole")
        self._next.begin(alone=alone)
        return self._next

    @contextmanager
    def ending(self, stage: Stage) -> Iterator[Stage]:
        """The stage that was worked in, wherever it stands by now; put in its place at the end if it is whole then."""
        if stage is self.stage:
            yield stage
            return
        try:
            file = (stage.directory / SETTINGS).open("rb")
        except FileNotFoundError:  # another process has put it in its place
            yield self.stage
            return
        with file:
            journal.lock(file.fileno(), wait=True)
            if not self._waits():
                yield self.stage
                return
            yield stage
            if stage.complete and (stage.directory / self.last).exists():
                self._refuse_others()
                put_directory(stage.directory, self.stage.directory.resolve())

    def give_up(self) -> None:
        """Leave nothing of what was to replace another."""
        shutil.rmtree(self._next.directory, ignore_errors=True)

    def _replaces(self, force: bool, again: bool) -> bool:
        return bool(force and self.stage.changed(force=True)) or (again and not self.stage.changed(force=force))

    def _waits(self) -> bool:
        """Whether what is called so is the new one yet, not the old one, which another process is removing."""
        with suppress(UserError):
            return not self._next.changed()
        return False

    def _begun(self) -> list[Path]:
        place = self.stage.directory.resolve()
        wanted = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{8}}{re.escape(NEXT)}")
        there = place.parent.iterdir() if place.parent.is_dir() else ()
        return sorted(path for path in there if wanted.fullmatch(path.name) and path.is_dir())

    def _refuse_others(self) -> None:
        for path in sorted(self.stage.directory.iterdir()):
            if not self.known(path.name):
                what = f"holds {path.name!r}, which is not of what --force replaces"
                raise UserError(what, where=str(self.stage.directory), hint="move it away, or write elsewhere")
