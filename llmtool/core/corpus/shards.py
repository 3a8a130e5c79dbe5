"""Long work in units: each unit's files appear whole, a marker after them says so, and a killed run goes on.

A stage is a directory. `settings.json` is written first and holds all that decides its bytes, what stands upstream
included; `NNNNN.done` is a unit's marker (its files with their sizes, and what it counted); `done.json` is the stage's.
Units are functions of the settings alone, so it does not matter who makes them, in which order, or how often.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run import journal
from llmtool.core.run.atomic import PARTIAL, atomic_file, refuse_stdout
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.manifest import said
from llmtool.core.run.seal import read_sealed, sealed

SETTINGS, DONE = "settings.json", "done.json"
AGAIN = "run the stage again with --force"


class Stage:
    """One stage's directory; safe to hand to another process.

    owned: nobody else writes there, so replacing the stage empties the directory. spelled: what settings are called
    where they are given ({"size": "--chunk"}); those inside others by their own name.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], *, owned: bool = True,
        spelled: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.spelled = dict(spelled or {})
        self.owned = owned
        self.settings: dict[str, Any] = parse_json(dumps(dict(settings)))

    @classmethod
    def existing(cls, directory: Path, command: str) -> "Stage":
        """A stage that must be complete: what a later one reads."""
        stage = cls(directory, {})
        journal.recover(directory)  # one that was being put in the place of another
        if not stage.complete:
            raise UserError("this stage is not complete", where=str(directory), hint=f"run `{command}` first")
        stage.settings = read_sealed(directory / SETTINGS, AGAIN)
        return stage

    @property
    def fingerprint(self) -> str:
        """Hash of the settings: how a later stage names this one."""
        text = dumps(self.settings, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def begin(self, *, force: bool = False, alone: bool = True) -> None:
        """Make the directory, or go on with it; other settings than before are refused, with `force` replaced.

        alone: no other job writes there now, so what is half written is a killed one's and removed.
        """
        refuse_stdout(self.directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if alone:
                journal.recover_all(self.directory)  # before what it names is swept
            for path in self.directory.glob(f".*{PARTIAL}") if alone else ():
                path.unlink(missing_ok=True)
            path = self.directory / SETTINGS
            if path.exists() and (changed := self.changed(force=force)):
                if not force:
                    raise UserError(
                        f"was begun with other settings: {'; '.join(changed)}",
                        where=str(self.directory),
                        hint="use --force to replace it, or write elsewhere",
                    )
                self._clear()
                self._write(SETTINGS, self.settings)
            elif force:
                self._unseal_damaged()
        except OSError as error:
            raise UserError(f"cannot write: {explain_os_error(error)}", where=str(self.directory)) from None
        if not path.exists():
            self._write(SETTINGS, self.settings)

    def is_done(self, unit: int) -> bool:
        """Whether the unit's marker stands and its files are as long as it says."""
        return self._is_whole(self._marker(unit))

    def _is_whole(self, marker: Path) -> bool:
        if not marker.exists():
            return False
        try:
            sizes = read_sealed(marker, AGAIN)["files"]
        except UserError:  # a damaged one: the unit is made again, to the same bytes
            return False
        for name, size in sizes.items():
            path = self.directory / name
            if not path.exists() or path.stat().st_size != size:
                return False
        return True

    def finish(self, unit: int, files: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Write the unit's marker; its files (names in the directory) are there already."""
        sizes = {name: (self.directory / name).stat().st_size for name in files}
        self._write(self._marker(unit).name, {"files": sizes, "facts": dict(facts)})

    def facts(self, unit: int) -> dict[str, Any]:
        """What the unit counted."""
        found: dict[str, Any] = read_sealed(self._marker(unit), AGAIN)["facts"]
        return found

    def files(self, unit: int) -> list[Path]:
        """The files of a unit that is done."""
        return [self.directory / name for name in read_sealed(self._marker(unit), AGAIN)["files"]]

    def path(self, unit: int, suffix: str) -> Path:
        """Where a file of a unit stands: NNNNN.SUFFIX."""
        return self.directory / f"{unit:05d}.{suffix}"

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was found out once for the stage, in a file of that name; made, and kept, where it is not there."""
        path = self.directory / name
        if path.exists():
            try:
                return read_sealed(path, AGAIN)
            except UserError:  # a damaged one: the same is found again
                pass
        made: dict[str, Any] = parse_json(dumps(make()))
        self._write(name, made)
        return made

    @property
    def complete(self) -> bool:
        """Whether `seal` was reached."""
        return (self.directory / DONE).exists()

    def seal(self, facts: Mapping[str, Any]) -> None:
        """The stage is complete; `facts` are its totals."""
        self._write(DONE, dict(facts))

    def totals(self) -> dict[str, Any]:
        """What `seal` was told."""
        return read_sealed(self.directory / DONE, AGAIN)

    def _marker(self, unit: int) -> Path:
        return self.path(unit, "done")

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        with atomic_file(self.directory / name) as file:
            file.write(sealed(facts, indent=1).encode())

    def changed(self, *, force: bool = False) -> list[str]:
        """What differs between the settings that stand there and these; damaged ones differ, with `force`."""
        try:
            before = read_sealed(self.directory / SETTINGS, "use --force to replace it, or write elsewhere")
        except UserError:
            if not force:
                raise
            before = {"damaged": True}
        was, now = self._named(before), self._named(self.settings)
        pairs = [(key, was.get(key), now.get(key)) for key in {**was, **now}]
        return [f"{self.spelled.get(key, key)}: {_told(old, new)}" for key, old, new in pairs if old != new]

    def _named(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings by name, those inside others among them."""
        found: dict[str, Any] = {}
        for key, value in settings.items():
            found |= value if isinstance(value, dict) and key not in self.spelled else {key: value}
        return found

    def _unseal_damaged(self) -> None:
        """What a reader refuses, and says to make again with --force, is made again: the rest of the stage stays."""
        if not self.complete:
            return
        try:
            units = self.totals().get("units", 0)
        except UserError:
            units = 0
            (self.directory / DONE).unlink()
        markers = {*self.directory.glob("*.done"), *map(self._marker, range(units))}
        if not all(map(self._is_whole, markers)):
            (self.directory / DONE).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Markers first: nobody may take half a stage for a whole one. The old settings stay until the new ones take
        their place, or a run that is killed between would leave a directory that is nobody's."""
        for pattern in (DONE, "*.done", *(["*"] if self.owned else [])):
            for path in filter(Path.is_file, self.directory.glob(pattern)):
                if path.name != SETTINGS:
                    path.unlink()


def _told(old: Any, new: Any) -> str:
    """Both values; of what was read only that it is other."""
    if any(isinstance(each, list) and any(isinstance(one, dict) for one in each) for each in (old, new)):
        return "other content"
    return f"{said(old)} -> {said(new)}"
