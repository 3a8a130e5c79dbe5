"""Inputs as the user names them: files, directories, URLs, pipes and standard input, in a fixed order, each file once.

A name may end in a weight, `web.jsonl@0.7`; one that exists as it stands is taken as it stands.
"""

import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

from llmtool.core.corpus import remote
from llmtool.core.corpus.blocks import BLOCK
from llmtool.core.corpus.document import NO_TARGET, NOTES, SAME_FILE, ReadReport
from llmtool.core.corpus.kinds import Kind
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.files import refuse_device
from llmtool.core.run.numbers import find_real

STDIN = "-"

_PACKED = r"(\.(gz|bz2|xz|zst|zstd))?"
_ROWS = rf"(?i)(.*\.(jsonl|ndjson|parquet|arrow|tar)|part-\d+.*){_PACKED}"
_NOTES = (
    r"(?i)(readme|license|licence|copying|citation|changelog|datasheet|notice)([._-].*)?"
    r"|(dataset_infos?|dataset_dict|state|metadata|croissant)\.json|.*\.(ya?ml|bib|cff)"
)
_SUFFIX = rf"(?i)(\.[a-z][a-z0-9]{{0,8}})?{_PACKED}$"
"""Not compiled here: that takes a millisecond, and only directories ask for them."""


@dataclass(frozen=True, slots=True)
class Input:
    """One stream of bytes.

    source: path, URL, or "-" for standard input.
    size: bytes; None for standard input, pipes and devices, which have no size and no telling name.
    named: given by the user, not met in a directory: it is read whatever it holds.
    root: the input that it belongs to, as the user named it (without its weight).
    weight: how often its text is wanted.
    start, end: the part of a file that is meant, bytes (of Parquet: row groups); end None: to its end.
    first_row: rows, lines or documents before it. begun, more: a document reaches over its beginning, over its end.
    member: of a part of a packed file, whose start and end are counted unpacked: (place on disk, unpacked bytes before
        it) of the last member, or frame, that begins at or before the part.
    kind: what the file is, where it is known already: a part cannot be told by its content.
    """

    source: str
    size: int | None
    named: bool
    root: str = field(default="", compare=False)
    weight: float = field(default=1.0, compare=False)
    start: int = 0
    end: int | None = None
    first_row: int = 0
    begun: bool = False
    more: bool = False
    member: tuple[int, int] | None = None
    kind: Kind | None = None

    def chunks(self, on_bytes: Callable[[int], None] | None = None) -> Generator[bytes, None, None]:
        """The raw bytes as they are read, of a packed part from its member on; `on_bytes` is told of each chunk."""
        if remote.is_url(self.source):
            yield from remote.chunks(self.source, on_bytes)
            return
        try:
            with self._open() as stream:
                start, end = (self.member[0], None) if self.member else (self.start, self.end)
                if start:
                    stream.seek(start)
                left = sys.maxsize if end is None else end - start
                while left and (chunk := stream.read(min(BLOCK, left))):
                    left -= len(chunk)
                    if on_bytes:
                        on_bytes(len(chunk))
                    yield chunk
                    if self.source == STDIN and len(chunk) < BLOCK:
                        break  # a terminal would want a second Ctrl-D: buffered reads come back short at the end only
        except OSError as error:
            raise unreadable(self.source, error) from None

    def seekable(self) -> AbstractContextManager[Any]:
        """What pyarrow reads in any order: the path, or an open remote file."""
        return remote.open_file(self.source) if remote.is_url(self.source) else nullcontext(self.source)

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if self.source != STDIN:
            return Path(self.source).open("rb", buffering=0)
        if sys.stdin is None:
            raise UserError("standard input is closed", hint="pipe text in, or name a file")
        return nullcontext(sys.stdin.buffer)


def split_weight(text: str) -> tuple[str, float]:
    """ "web.jsonl@0.7" -> (web.jsonl, 0.7); a path that exists as it stands is taken as it stands."""
    path, at, number = text.rpartition("@")
    if not at or not path or (not remote.is_url(text) and os.path.lexists(text)):
        return text, 1.0
    weight = find_real(number)
    if weight is None:
        if remote.is_url(text) or not os.path.lexists(path):
            return text, 1.0
        raise UserError(f"{number!r} is not a weight", where=text, hint="PATH@0.3")
    if weight <= 0:
        raise UserError(f"a weight of {number} takes nothing", where=text, hint="a weight is above 0: PATH@0.3")
    return path, weight


def without_weights(inputs: Sequence[str | Path]) -> list[str]:
    """The places that inputs name."""
    return [split_weight(str(name))[0] for name in inputs]


def find_inputs(
    inputs: Sequence[str | Path], reading: Reading | None = None, report: ReadReport | None = None
) -> list[Input]:
    """Every stream to read: names in the given order, directories recursively and sorted.

    Below a named directory hidden files and directories and __pycache__ are passed over; links to files are followed,
    links to directories are not; notes that lie beside a dataset are left out unless `include` asks for them. A file
    that was taken before, by whatever name, is not taken again. What is left out so is counted in `report`.
    """
    if not inputs:
        raise UserError("no input", hint="name a file or a directory, or - for standard input")
    search = _Search(reading or Reading(), ReadReport() if report is None else report)
    for name in map(str, inputs):
        search.take(name)
    return search.found


def total_bytes(inputs: Sequence[str | Path], reading: Reading | None = None) -> int | None:
    """Bytes of all inputs, what the `on_bytes` of a complete reading add up to; None if one has no size."""
    total = 0
    for entry in find_inputs(inputs, reading):
        if entry.size is None:
            return None
        total += entry.size
    return total


def unreadable(source: str, error: OSError) -> UserError:
    """The one line for a file that cannot be opened or read."""
    return UserError(f"cannot read: {explain_os_error(error)}", where=source)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """A short name for each path, no two alike: without its suffix, else whole, else with directories before it."""
    forms = []
    for path in paths:
        parts = Path(path).parts or (path,)
        ends = ["/".join(parts[-count:]).replace("//", "/") for count in range(1, len(parts) + 1)]
        forms.append([re.sub(_SUFFIX, "", ends[0]) or ends[0], *ends, path])
    level = [0] * len(forms)
    while True:
        names = [form[min(step, len(form) - 1)] for form, step in zip(forms, level, strict=True)]
        shared = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        rising = [at for at, name in enumerate(names) if name in shared and level[at] < len(forms[at]) - 1]
        if not rising:
            return names
        for at in rising:
            level[at] += 1


class _Search:
    """The walk over what the user named; each file is taken once."""

    def __init__(self, reading: Reading, report: ReadReport) -> None:
        self._reading, self._report = reading, report
        self.found: list[Input] = []
        self._seen: set[object] = set()

    def take(self, text: str) -> None:
        if text == STDIN:
            if STDIN in self._seen:
                raise UserError("standard input (-) is named twice", hint="it can be read only once")
            self._seen.add(STDIN)
            self.found.append(Input(STDIN, None, named=True, root=STDIN))
            return
        name, weight = split_weight(text)
        start = len(self.found)
        if remote.is_url(name):
            self._take_remote(name)
        else:
            self._take_local(name)
        if weight != 1.0:
            self.found[start:] = [replace(entry, weight=weight) for entry in self.found[start:]]

    def _take_local(self, name: str) -> None:
        try:
            status = os.stat(name)  # noqa: PTH116 (Path("") would be the current directory)
        except OSError as error:
            raise unreadable(name, error) from None
        if not S_ISDIR(status.st_mode):
            refuse_device(name, status.st_mode)
            size = status.st_size if S_ISREG(status.st_mode) else None
            self._add(Input(name, size, named=True, root=name), (status.st_dev, status.st_ino))
            return
        below = list(self._walk(name, name))
        self._add_below(name, [(Input(path, size, named=False, root=name), key) for path, size, key in below])

    def _take_remote(self, name: str) -> None:
        found = remote.find(name)
        if found is None:
            self._add(Input(name, remote.size(name), named=True, root=name), name)
        else:
            root, listing = found
            self._add_below(root, [(Input(url, size, named=False, root=root), url) for url, size in listing])

    def _add_below(self, root: str, below: list[tuple[Input, object]]) -> None:
        """What a directory holds, as far as it is wanted."""
        if not below:
            raise UserError("the directory holds no file", where=root, hint="hidden files are not read")
        asked = self._reading.include
        matching = [(entry, key) for entry, key in below if self._wanted(entry.source[len(root) :].lstrip("/"))]
        if not matching:
            hint = f"--include {' '.join(asked)}" if asked else f"--exclude {' '.join(self._reading.exclude)}"
            raise UserError(f"none of {len(below):,} files is wanted", where=root, hint=hint)
        dataset = not asked and any(re.fullmatch(_ROWS, _base(entry.source)) for entry, _ in matching)
        self._report.directory = True
        for entry, key in matching:
            if dataset and re.fullmatch(_NOTES, _base(entry.source)):
                self._report.add(entry.source, NOTES)
            else:
                self._add(entry, key)

    def _add(self, entry: Input, key: object) -> None:
        if entry.size is not None and key in self._seen:
            self._report.add(entry.source, SAME_FILE)
            return
        self._seen.add(key)
        self.found.append(entry)

    def _wanted(self, path: str) -> bool:
        include, exclude = self._reading.include, self._reading.exclude
        return (not include or any(_matches(path, glob) for glob in include)) and not any(
            _matches(path, glob) or ("/" not in glob and any(fnmatchcase(part, glob) for part in path.split("/")))
            for glob in exclude
        )

    def _walk(self, directory: str, root: str) -> Iterator[tuple[str, int, object]]:
        """(path, size, identity) of the regular files below a directory."""
        try:
            with os.scandir(directory) as entries:
                listing = sorted(
                    (e for e in entries if not e.name.startswith((".", "__pycache__"))), key=lambda e: e.name
                )
        except OSError as error:
            raise unreadable(directory, error) from None
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path, root)
                continue
            try:
                status = entry.stat()
            except OSError as error:  # a link to nothing, or to itself
                if not entry.is_symlink():
                    raise unreadable(entry.path, error) from None
                self._report.add(entry.path, NO_TARGET)
                continue
            if S_ISREG(status.st_mode):
                yield entry.path, status.st_size, (status.st_dev, status.st_ino)


def _matches(path: str, glob: str) -> bool:
    return fnmatchcase(path if "/" in glob else _base(path), glob)


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
