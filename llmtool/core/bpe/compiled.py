"""Vocabularies as they were read once, in the user's cache: a second start reads buffers, not JSON.

An entry is a file under the sha256 of the tokenizer file that it was made of: a digest of all that follows it, a JSON
header (what the tokenizer file holds besides its vocabulary), and the vocabulary's buffers. It is a copy that may be
missing, cut short, damaged or of another version: then it is not used, and the tokenizer file is read. Entries are
written beside and renamed, so that readers and writers at once are no matter; a cache that cannot be written is none.
It is read, not mapped: a mapped file that somebody truncates ends the process. Beside an entry lie the tables that the
engine built of it (`Tables`), for that very build of the engine.

LLMTOOL_CACHE names the directory in place of ~/.cache/llmtool (XDG_CACHE_HOME is honoured); "off" is no cache.
"""

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from llmtool.core.bpe.added_tokens import AddedToken
from llmtool.core.bpe.packed import PackedBytes, PackedIds, PackedTriples
from llmtool.core.bpe.vocabulary import Unknown, Vocabulary
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.version import __version__

FORM = 3
"""To be raised with every change of what an entry holds, or of what the readers make of a tokenizer file."""

SMALLEST = 100_000
"""Bytes of a tokenizer file below which reading it anew costs as little."""

KEPT = 128
"""Files; the oldest go first."""

MAGIC = b"llmtool vocabulary\n"
HELD_BY = ("vocab", "merges", "vocabulary", "scaffolds")
"""Fields of tokenizer files that an entry holds in its buffers."""


class Entry(NamedTuple):
    """What a tokenizer file was read as: its other fields, the vocabulary's left empty, and the vocabulary."""

    facts: dict[str, Any]
    vocabulary: Vocabulary


def directory() -> Path | None:
    """Where entries lie; None where there is to be no cache."""
    named = os.environ.get("LLMTOOL_CACHE")
    if named == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(named or f"{base}/llmtool").expanduser() / "vocabularies"
    except RuntimeError:  # nobody's home
        return None


def entry_path(data: bytes) -> Path | None:
    """Where the entry of a tokenizer file of this content lies, or would; None where it is not worth one."""
    place = directory() if len(data) >= SMALLEST else None
    if place is None:
        return None
    name = hashlib.sha256(data).hexdigest()
    return place / f"{name}-{__version__}-{FORM}-{sys.byteorder}"


class Tables:
    """The engine's tables of an entry: what an encoder's `state` gives, and what it is made of again."""

    def __init__(self, entry: Path, engine: str) -> None:
        """engine: the file of the engine, whose every build has tables of its own."""
        built = os.stat(engine)  # noqa: PTH116 (a millisecond of imports less)
        self._path = entry.with_name(f"{entry.name}-{built.st_size:x}-{built.st_mtime_ns:x}")

    def load(self) -> memoryview | None:
        """The tables, if they are there and whole."""
        return _read_own(self._path)

    def store(self, state: bytes) -> None:
        """Write the tables."""
        _write_own(self._path, state)


def load_entry(path: Path) -> Entry | None:
    """The entry, if it is there, whole, and our own."""
    data = _read_own(path)
    if data is None:
        return None
    size = int.from_bytes(data[:8], "little")
    at = 8 + size
    header = parse_json(bytes(data[8:at]))
    buffers = []
    for length in header["lengths"]:
        buffers.append(bytes(data[at : at + length]))
        at += length
    unknown = header["unknown"]
    vocabulary = Vocabulary(
        PackedBytes(*buffers[:2]),
        PackedTriples(buffers[2]),
        PackedIds(*buffers[3:]),
        tuple(AddedToken(**token) for token in header["added"]),
        header["unused"],
        Unknown(**{**unknown, "byte_ids": dict(unknown["byte_ids"])}),
        header["alphabet"],
    )
    return Entry(header["facts"], vocabulary)


def _read_own(path: Path) -> memoryview | None:
    """What a file of ours holds after its digest; None where it is not whole, or others could have written it."""
    try:
        if not path.is_file():
            return None  # a pipe would be waited for
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                return None  # others could have written it
            data = memoryview(file.read())  # its slices are no copies
    except OSError:
        return None
    start = len(MAGIC) + 32
    if data[: len(MAGIC)] != MAGIC or hashlib.sha256(data[start:]).digest() != data[len(MAGIC) : start]:
        return None
    return data[start:]


def store_entry(path: Path, entry: Entry) -> None:
    """Write an entry, and remove the oldest ones; a full disk or a directory that is not ours to write is no matter."""
    vocabulary = entry.vocabulary
    units, emit = PackedBytes.of(vocabulary.units), PackedIds.of(vocabulary.emit)
    buffers = [units.data, units.ends, PackedTriples.of(vocabulary.merges).data, emit.data, emit.ends]
    unknown = {**vars(vocabulary.unknown), "byte_ids": list(vocabulary.unknown.byte_ids.items())}
    header = dumps(
        {
            "facts": _without_vocabulary(entry.facts), "alphabet": vocabulary.alphabet, "unused": vocabulary.unused,
            "added": [token.to_json() for token in vocabulary.added], "unknown": unknown,
            "lengths": list(map(len, buffers)),
        }
    ).encode()  # fmt: skip
    _write_own(path, b"".join([len(header).to_bytes(8, "little"), header, *buffers]))


def _write_own(path: Path, rest: bytes) -> None:
    beside = path.with_name(f".{path.name}-{os.getpid()}-{id(rest)}")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(MAGIC + hashlib.sha256(rest).digest() + rest)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        _remove_oldest(path.parent)


def _without_vocabulary(facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a file, those of its vocabulary empty."""
    kept = {key: type(value)() if key in HELD_BY else value for key, value in facts.items()}
    return {**kept, "model": _without_vocabulary(facts["model"])} if isinstance(facts.get("model"), dict) else kept


def _remove_oldest(place: Path) -> None:
    written = sorted(place.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in written[:-KEPT]:
        path.unlink(missing_ok=True)
