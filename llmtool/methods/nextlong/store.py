"""The chunks of a corpus as the stage `chunk` left them, read from disk where needed."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import OPEN, Mapped
from llmtool.core.corpus.shards import AGAIN, SETTINGS, Stage
from llmtool.core.run import journal
from llmtool.core.run.atomic import PARTIAL, refuse_stdout
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import require_plain
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.outputs import refuse_overlap
from llmtool.core.run.record import Record

I64 = npt.NDArray[np.int64]
LONGEST = 1 << 18
"""Bytes of a chunk that are looked at: with --split paper a line of 50 MB costs what a long page does."""


STAGES = ("documents", "chunks", "vectors", "copies", "index", "neighbours-", "tokens-", "samples-", "short")
"""What the names in a work directory begin with."""


def claim_work(directory: Path, read: Sequence[str | Path]) -> None:
    """Refuse a work directory whose files would be read as corpus, and one that holds somebody else's.

    read: all that the command reads.
    """
    refuse_stdout(directory)
    refuse_overlap([directory], read)
    journal.recover_all(directory)
    if (directory / "chunks" / SETTINGS).exists() or not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        if not path.name.endswith(PARTIAL) and not (path.is_dir() and path.name.startswith(STAGES)):
            what = f"holds {path.name!r}, and is no work directory of llmtool"
            raise UserError(what, where=str(directory), hint="name an empty directory, or a new one")


class Store:
    """Chunks and documents by number, 0-based over all units; memory holds 20 bytes a document.

    Texts are read and not mapped, so that they do not count as memory of the process.
    """

    def __init__(self, directory: Path) -> None:
        self.stage = Stage.existing(directory / "chunks", "llmtool data chunk")
        totals = self.stage.totals()
        self.facts: dict[str, Any] = totals
        units = range(totals["units"])
        counts = [self.stage.facts(unit) for unit in units]
        self.chunks, self.documents = totals["chunks"], totals["documents"]
        self._chunk_first = np.cumsum([0, *(facts["chunks"] for facts in counts)])
        self._starts: list[int] = self._chunk_first.tolist()  # for one chunk bisect is ten times as fast as numpy
        self._document_first = np.cumsum([0, *(facts["documents"] for facts in counts)])
        self._bounds, self._chars, tables = (
            Mapped([self.stage.path(unit, f"{name}.npy") for unit in units]) for name in ("bounds", "chars", "docs")
        )
        self._tables = tables
        for unit, (facts, table) in enumerate(zip(counts, tables, strict=True)):
            found = bool(table.ndim == 2 and table.shape[1] > 3 and len(table) == facts["documents"])
            if not found or (len(table) and int(table[:, 2].max()) >= len(facts["sources"])):
                raise UserError("is not the table of its documents", where=str(self.stage.path(unit, "docs.npy")),
                                hint=AGAIN)  # fmt: skip
        firsts = [
            table[:, 1].astype(np.int64) + first for table, first in zip(tables, self._chunk_first[:-1], strict=True)
        ]
        self.first: I64 = np.concatenate([*firsts, [self.chunks]]).astype(np.int64)
        """First chunk of each document, and the number of chunks [documents + 1]."""
        self.sources: list[str] = list(dict.fromkeys(name for facts in counts for name in facts["sources"]))
        number = {name: index for index, name in enumerate(self.sources)}
        codes = [
            np.array([number[name] for name in facts["sources"]], np.uint32)[table[:, 2].astype(np.int64)]
            for facts, table in zip(counts, tables, strict=True)
            if len(table)
        ]
        self.source: npt.NDArray[np.uint32] = np.concatenate(codes) if codes else np.zeros(0, np.uint32)
        """Source of each document, an index of `sources`."""
        self.keys: npt.NDArray[np.uint64] = np.concatenate([np.zeros(0, np.uint64), *(table[:, 3] for table in tables)])
        """What a document's place, its samples' names and all that is drawn for it hang on: a hash of its id."""
        self._open: dict[tuple[int, str], int] = {}

    def text(self, chunk: int) -> bytes:
        """Text of one chunk."""
        unit = bisect_right(self._starts, chunk) - 1
        begin, end = self._ends(unit)[chunk - self._starts[unit]].tolist()
        return self._read(unit, "text", begin, end - begin)

    def texts(self, start: int, stop: int) -> list[bytes]:
        """Texts of chunks start..stop-1."""
        out: list[bytes] = []
        while start < stop:
            unit = int(np.searchsorted(self._chunk_first, start, "right")) - 1
            first = self._chunk_first[unit]
            end = min(stop, int(self._chunk_first[unit + 1]))
            bounds = self._ends(unit)[start - first : end - first].astype(np.int64)
            place = int(bounds[0, 0])
            data = self._read(unit, "text", place, int(bounds[-1, 1]) - place)
            out += [data[a - place : b - place] for a, b in bounds.tolist()]
            start = end
        return out

    def passage(self, start: int, stop: int, most: int) -> bytes:
        """Text of chunks start..stop-1 of one document with what stands between them; whole characters, at most `most`
        bytes."""
        unit = int(np.searchsorted(self._chunk_first, start, "right")) - 1
        first = int(self._chunk_first[unit])
        ends = self._ends(unit)
        begin, end = int(ends[start - first, 0]), int(ends[stop - 1 - first, 1])
        data = self._read(unit, "text", begin, min(end - begin, most))
        return data if end - begin <= most else data.decode("utf-8", "ignore").encode()

    def lengths(self, start: int, stop: int) -> I64:
        """Characters of chunks start..stop-1."""
        firsts = self._chunk_first
        low = max(0, int(np.searchsorted(firsts, start, "right")) - 1)
        high = max(low + 1, int(np.searchsorted(firsts, stop, "left")))
        cut = [self._chars[u][max(0, start - int(firsts[u])) : max(0, stop - int(firsts[u]))] for u in range(low, high)]
        return np.concatenate(cut).astype(np.int64)

    def document_of(self, chunks: npt.NDArray[Any] | int) -> I64:
        """Number of the document of each chunk; same shape."""
        return np.searchsorted(self.first, chunks, "right") - 1

    def document(self, number: int) -> dict[str, Any]:
        """What is known of a document: id, source, licence if any, chars, chunks."""
        unit = int(np.searchsorted(self._document_first, number, "right")) - 1
        local = number - int(self._document_first[unit])
        about = self._tables[unit][:, 0]
        start = int(about[local])
        size = (int(about[local + 1]) if local + 1 < len(about) else start + (1 << 20)) - start
        where = str(self.stage.path(unit, "docs.jsonl"))
        try:
            facts = parse_json(self._read(unit, "docs.jsonl", start, size, short=True).split(b"\n", 1)[0])
        except ValueError:
            raise UserError("holds no document where its table says", where=where, hint=AGAIN) from None
        row = Record(facts, where)
        for key in ("id", "source"):
            row.text(key)
        row.whole("chunks", low=1)
        return dict(row.facts)

    def _ends(self, unit: int) -> npt.NDArray[Any]:
        """Where each chunk of a unit begins and ends in its text [chunks, 2]."""
        ends = self._bounds[unit]
        if ends.shape != (int(self._chunk_first[unit + 1] - self._chunk_first[unit]), 2):
            where = str(self.stage.path(unit, "bounds.npy"))
            raise UserError(f"is of shape {list(ends.shape)}, which is not that of its chunks", where=where, hint=AGAIN)
        return ends

    def _read(self, unit: int, suffix: str, start: int, size: int, *, short: bool = False) -> bytes:
        """Bytes of a file of a unit; with `short` up to its end, if that comes first."""
        key = (unit, suffix)
        if key not in self._open:
            if len(self._open) >= 2 * OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            require_plain(self.stage.path(unit, suffix))
            self._open[key] = os.open(self.stage.path(unit, suffix), os.O_RDONLY)
        held = os.fstat(self._open[key]).st_size
        if not (0 <= start <= held and size >= 0 and (short or start + size <= held)):
            where = str(self.stage.path(unit, suffix))
            raise UserError(f"ends at byte {held:,}, not at {start + size:,}", where=where, hint=AGAIN)
        return os.pread(self._open[key], min(size, held - start), start)
