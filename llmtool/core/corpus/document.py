"""What every reader yields, and the record of a reading: what was taken as what, left out, and found broken."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from typing import Any

from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted, size

NOT_TEXT = "not text (NUL bytes)"
"""Reason of files in directories that nobody takes for text: counted, not listed one by one."""

SAME_FILE = "the same file again (a link, or named twice)"
NOTES = "notes beside a dataset (README, licence, metadata; --include takes them)"
NO_TARGET = "a link that leads nowhere"
QUIET = (NOT_TEXT, NOTES)
"""Reasons whose files are counted and not listed."""

KEPT = 5
"""Locations remembered for each reason: enough to look at, however bad the corpus is."""

NAMES = {
    "text": "plain text", "jsonl": "JSONL", "json": "JSON", "csv": "a table (CSV, TSV)", "tar": "a tar",
    "parquet": "Parquet", "arrow": "Arrow",
}  # fmt: skip
"""Kinds of files as people call them."""


@dataclass(slots=True)
class Document:
    """A document, or a block of one.

    text: UTF-8, or whatever bytes the file holds (see `broken.py`).
    source: path as it was reached, "-" for standard input.
    row: 1-based line, row or sample; 1 for a document that is a whole file.
    more: the same document goes on in the next Document.
    id: the row's own name (its field `id`, or the one that --id-field names; a tar's sample key).
    kept: string fields of the row that the reader was asked to keep.
    """

    text: bytes
    source: str
    row: int
    more: bool = False
    id: str | None = None
    kept: dict[str, str] | None = None


@dataclass
class ReadReport:
    """What one reading met; several are added up by `merge`.

    count: rows and files left out; reasons: how many for each reason.
    first: (where, what exactly) of at most KEPT for each reason, in reading order.
    files, rows: taken, by kind; a whole plain file is one row.
    broken: documents that hold broken text, by what it is.
    replaced: whether broken text was replaced by U+FFFD rather than kept.
    directory: whether some file was met in a directory rather than named.
    sample: (bytes of text drawn, bytes of all text by estimate) where a sample was asked for.
    notes: (where, what) of text that was read though it is hardly what was meant.
    """

    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    replaced: bool = False
    directory: bool = False
    sample: tuple[int, int] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, where: str, what: str) -> None:
        """Remember something odd about a text that was taken."""
        self.notes.append((where, what))

    def add(self, where: str, reason: str, detail: str = "") -> None:
        """Count a row or file that is left out; `reason` groups, `detail` is particular to this one."""
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.reasons[reason] <= KEPT:
            self.first.append((where, f"{reason}: {detail}" if detail else reason))

    def take(self, kind: str, rows: int, files: int = 1) -> None:
        """Count a file that was read as `kind`; files: 0 where it is read once more."""
        self.files[kind] = self.files.get(kind, 0) + files
        self.rows[kind] = self.rows.get(kind, 0) + rows

    def taken(self) -> str | None:
        """One line for people: files and rows by kind; None where only named plain text was read."""
        plain = set(self.files) == {"text"} and not self.directory and self.sample is None
        if not self.files or plain:
            return None
        parts = [
            f"{counted(files, 'file')} as {NAMES[kind]}"
            + (f" ({counted(self.rows[kind], 'row')})" if kind != "text" else "")
            for kind, files in sorted(self.files.items(), key=lambda item: list(NAMES).index(item[0]))
        ]
        if self.sample is None:
            return f"read {', '.join(parts)}"
        return f"drew {size(self.sample[0])} of about {size(self.sample[1])} from {', '.join(parts)}"

    def lines(self) -> Iterator[str]:
        """The warnings: what is odd, what was left out by totals and then the locations, and broken text."""
        yield from (f"{where}: {what}" for where, what in self.notes[:KEPT])
        if len(self.notes) > KEPT:
            yield f"and {counted(len(self.notes) - KEPT, 'more text')} like these"
        if self.count:
            totals = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.items())
            yield f"skipped {counted(self.count, 'row or file', 'rows or files')}: {totals}"
        listed = [(where, what) for where, what in self.first if what not in QUIET]
        for where, what in listed:
            yield f"  {where}: {what}"
        left = self.count - sum(self.reasons.get(reason, 0) for reason in QUIET) - len(listed)
        if left:
            yield f"  ... and {left:,} more"
        if self.broken:
            totals = ", ".join(f"{what} in {number:,}" for what, number in self.broken.items())
            done = "replaced by U+FFFD" if self.replaced else "kept as they are; --broken replace writes U+FFFD"
            yield f"broken text, documents by kind: {totals} ({done})"

    def say(self, console: Console) -> None:
        """Tell people, once a reading is over."""
        if line := self.taken():
            console.info(line)
        for line in self.lines():
            console.warn(line)

    def to_json(self) -> dict[str, Any]:
        """For a unit's marker."""
        return asdict(self)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add what another reading counted (its `to_json`)."""
        self.count += other["count"]
        for name in ("reasons", "files", "rows", "broken"):
            mine = getattr(self, name)
            for key, number in other[name].items():
                mine[key] = mine.get(key, 0) + number
        self.first = [*self.first, *((where, what) for where, what in other["first"])][: 4 * KEPT]
        self.notes = [*self.notes, *((where, what) for where, what in other["notes"])]
        self.replaced |= other["replaced"]
        self.directory |= other["directory"]
        if other["sample"]:
            drawn, total = self.sample or (0, 0)
            self.sample = (drawn + other["sample"][0], total + other["sample"][1])


@dataclass(frozen=True, slots=True)
class RowErrors:
    """What is done with a row that does not parse: counted, or under `strict` fatal."""

    report: ReadReport
    strict: bool

    def add(self, where: str, reason: str, *, detail: str = "", hint: str = "") -> None:
        """Leave a row out, or raise a UserError that names it and says how to mend it."""
        if self.strict:
            what = f"{reason}: {detail}" if detail else reason
            raise UserError(what, where=where, hint=hint or "correct the row, or read without --strict to skip it")
        self.report.add(where, reason, detail)
