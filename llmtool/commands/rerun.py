"""A command again, from the run.json of what it made."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

from llmtool.core.checkpoint.directory import CONFIG, open_checkpoint
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import SCHEMA, file_entry, manifest_path
from llmtool.version import __version__

PROGRAMS = ("llmtool", "__main__.py")
"""The last part of argv[0] where a command line made the output, and no caller in Python."""


@dataclass(frozen=True)
class Again:
    """words: of the command line, without the program. directory: where it was typed."""

    words: Sequence[str]
    directory: Path
    made: dict[str, Any]

    @property
    def shown(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(["llmtool", *self.words])

    def warnings(self) -> Iterator[str]:
        """What is not as it was: versions, and inputs by their hashes."""
        was = self.made.get("version")
        if was != __version__:
            yield f"made by llmtool {was}, this is {__version__}"
        for entry in self.made.get("inputs") or []:
            name, wanted = (entry.get("path"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(wanted, str):
                continue
            place = self.directory / name
            if not place.exists():
                yield f"{place}: is not there"
            elif "files" in entry and wanted not in self._hashes(place):
                yield f"{place}: has changed since"

    def _hashes(self, place: Path) -> Iterator[str | None]:
        """What commands write of an input: text by its content, a checkpoint by its weights, anything by its files."""
        for reading in (self._reading(), Reading()) if place.is_dir() else [Reading()]:
            with suppress(UserError):
                yield describe(str(place), Event(), True, reading)["sha256"]
        if (place / CONFIG).is_file():
            with suppress(UserError):
                yield open_checkpoint(place).fingerprint()["sha256"]
        yield file_entry(place)["sha256"]

    def _reading(self) -> Reading:
        """Which files of a directory were read."""
        known = self.made.get("config")
        facts = known if isinstance(known, dict) else {}

        def globs(name: str) -> list[str]:
            kept = facts.get(name)
            found = kept if isinstance(kept, list) else []
            return [str(glob) for glob in found] or [now for was, now in pairwise(self.words) if was == f"--{name}"]

        with suppress(UserError):
            return Reading(include=globs("include"), exclude=globs("exclude"), format=facts.get("input_format", "auto"))
        return Reading()


def command_of(place: Path, more: Sequence[str]) -> Again:
    """The command that a run.json holds, with more words behind it; an output is taken for the run.json beside it."""
    manifest = place if place.name.endswith("run.json") else manifest_path(place)
    if not manifest.is_file():
        raise UserError("no such run.json", where=str(manifest), hint="F.run.json stands beside F, DIR/run.json in DIR")
    made = read_json_object(manifest)
    if made.get("schema") != SCHEMA:
        raise UserError(f"is not a run.json of llmtool ({SCHEMA})", where=str(manifest))
    argv = made.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise UserError("holds no command line", where=str(manifest))
    if Path(argv[0]).name not in PROGRAMS:
        what = f"was not made by a command line but by {Path(argv[0]).name or 'Python'}"
        raise UserError(what, where=str(manifest), hint="its settings stand under config")
    typed = made.get("directory")
    directory = Path(typed) if isinstance(typed, str) and Path(typed).is_dir() else Path.cwd()
    return Again([*argv[1:], *more], directory, made)
