"""What every reader yields, and the record of what it had to leave out."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from llmtool.core.run.errors import UserError

NOT_TEXT = "not text (NUL bytes)"
"""Reason of files in directories that nobody takes for text: counted, not listed one by one."""

KEPT = 5
"""Locations remembered for each reason: enough to look at, however bad the corpus is."""


@dataclass(slots=True)
class Document:
    """A document, or a block of one.

    text: UTF-8, or whatever bytes the file holds; readers never repair them.
    source: path as it was reached, "-" for standard input.
    row: 1-based line or row; 1 for a document that is a whole file.
    more: the same document goes on in the next Document.
    id: the JSONL row's string field `id`, by which parallel texts are matched.
    kept: string fields of the row that the reader was asked to keep.
    """

    text: bytes
    source: str
    row: int
    more: bool = False
    id: str | None = None
    kept: dict[str, str] | None = None


@dataclass
class Skipped:
    """Rows and files that were left out: how many for each reason, and where the first ones are.

    reasons: reason -> number of rows or files.
    first: (where, what exactly) of at most KEPT for each reason, in reading order.
    notes: (where, what) of text that was read though it is hardly what was meant.
    """

    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, where: str, what: str) -> None:
        """Remember something odd about a text that was taken."""
        self.notes.append((where, what))

    def add(self, where: str, reason: str, detail: str = "") -> None:
        """Count one row or file; `reason` groups, `detail` is particular to this one."""
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.reasons[reason] <= KEPT:
            self.first.append((where, f"{reason}: {detail}" if detail else reason))

    def lines(self) -> Iterator[str]:
        """The report for people: what is odd, totals for each reason, then the locations."""
        yield from (f"{where}: {what}" for where, what in self.notes[:KEPT])
        if len(self.notes) > KEPT:
            yield f"and {len(self.notes) - KEPT:,} more texts like these"
        if self.count:
            totals = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.items())
            yield f"skipped {self.count:,} rows or files: {totals}"
        listed = [(where, what) for where, what in self.first if what != NOT_TEXT]
        for where, what in listed:
            yield f"  {where}: {what}"
        left = self.count - self.reasons.get(NOT_TEXT, 0) - len(listed)
        if left:
            yield f"  ... and {left:,} more"


@dataclass(frozen=True, slots=True)
class RowErrors:
    """What is done with a row that does not parse: counted, or under `strict` fatal."""

    skipped: Skipped
    strict: bool

    def add(self, where: str, reason: str, *, detail: str = "", hint: str = "") -> None:
        """Leave a row out, or raise a UserError that names it and says how to mend it."""
        if self.strict:
            what = f"{reason}: {detail}" if detail else reason
            raise UserError(what, where=where, hint=hint or "correct the row, or read without --strict to skip it")
        self.skipped.add(where, reason, detail)
