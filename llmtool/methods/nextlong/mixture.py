"""Rows of several kinds in one output: one sample of T tokens, several shorter ones packed, ordinary documents packed.

Every row has T tokens, whatever it holds, and says where each sample or document in it lies: trainers mask attention
between these ranges. Kinds stand evenly among one another, so that each stretch of the output has the whole's shares.
In text (JSONL) a sample is a line and nothing is packed; the order is the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.methods.nextlong.short import Short

U32 = npt.NDArray[np.uint32]
LONG, PACKED, SHORT = range(3)
KINDS = ("long", "packed", "short")
"""Of rows: one sample of T tokens, several shorter ones, ordinary documents."""


def counts(shares: Sequence[float], rows: int) -> list[int]:
    """So many rows of each kind: the shares of `rows`, what is left over to the largest remainders (the first wins)."""
    exact = [share * rows for share in shares]
    whole = [int(each + 1e-9) for each in exact]
    order = sorted(range(len(shares)), key=lambda kind: (whole[kind] - exact[kind], kind))
    for kind in order[: rows - sum(whole)]:
        whole[kind] += 1
    return whole


def fitting(shares: Sequence[float], wanted: int, available: Sequence[int]) -> list[int]:
    """Rows of each kind, as many as there can be with these shares and no more than are available of any."""
    most = [(held + 1) / share for share, held in zip(shares, available, strict=True) if share > 0]
    rows = min(wanted, *(int(each) for each in most))
    while any(need > held for need, held in zip(counts(shares, rows), available, strict=True)):
        rows -= 1
    return counts(shares, rows)


def order(rows: Sequence[int]) -> list[int]:
    """The kind of each row: those of a kind at equal distances."""
    places = [((number + 0.5) / count, kind) for kind, count in enumerate(rows) for number in range(count)]
    return [kind for _, kind in sorted(places)]


@dataclass(frozen=True)
class Samples:
    """Samples of one length, as the units of a stage made them."""

    stage: Stage
    units: int

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.stage.facts(unit)["accepted"] for unit in range(self.units))

    def lines(self) -> Iterator[bytes]:
        """Their JSON lines."""
        for unit in range(self.units):
            with self.stage.path(unit, "jsonl").open("rb") as file:
                yield from file

    def ids(self) -> Iterator[U32]:
        """Their ids [tokens of a sample]."""
        for unit in range(self.units):
            yield from map_array(self.stage.path(unit, "ids.npy"))


@dataclass(frozen=True)
class Row:
    """ids [T]; ends: behind the last token of each sample or document; domain: the source of most tokens."""

    ids: U32
    ends: list[int]
    domain: str


@dataclass(frozen=True)
class Mixture:
    """What an output consists of; rows: so many of each kind; per_row: samples of a packed row."""

    rows: Sequence[int]
    long: Samples
    packed: Samples | None
    short: Short | None
    per_row: int

    @property
    def samples(self) -> int:
        """Long samples, packed or not."""
        return self.rows[LONG] + self.rows[PACKED] * self.per_row

    def _sources(self) -> dict[int, tuple[Samples, int]]:
        """Kinds whose rows are of samples, and how many a row holds."""
        return {LONG: (self.long, 1)} | ({PACKED: (self.packed, self.per_row)} if self.packed else {})

    def lines(self, *, text: bool) -> Iterator[bytes]:
        """A line for each sample, in the order of the rows; where ids are written it says in which row and where."""
        found = {kind: (each.lines(), many) for kind, (each, many) in self._sources().items()}
        for number, kind in enumerate(order(self.rows)):
            if kind == SHORT:
                continue
            lines, many = found[kind]
            start = 0
            for line in islice(lines, many):
                if text:
                    yield line
                    continue
                row = parse_json(line)
                yield _line({**row, "row": number, "range": [start, start + row["target"]]})
                start += row["target"]

    def documents(self, *, text: bool) -> Iterator[bytes]:
        """A line for each ordinary document, with its text; where ids are written for each range, without."""
        if self.short is None:
            return
        before = -1
        numbers = [number for number, kind in enumerate(order(self.rows)) if kind == SHORT]
        for place, number in enumerate(numbers):
            for first, stop, document in self.short.ranges(place):
                if not text:
                    yield _line({**self.short.about(document), "row": number, "range": [first, stop]})
                elif document != before:  # one that goes on in the next row is the last of this one
                    yield _line({"text": self.short.text(document), **self.short.about(document)})
                before = document

    def __iter__(self) -> Iterator[Row]:
        """The rows as ids."""
        found = {
            kind: (each.ids(), map(parse_json, each.lines()), many) for kind, (each, many) in self._sources().items()
        }
        place = 0
        for kind in order(self.rows):
            if kind == SHORT:
                assert self.short is not None
                ranges = self.short.ranges(place)
                sources: Counter[str] = Counter()
                for first, stop, document in ranges:
                    sources[self.short.about(document)["source"]] += stop - first
                yield Row(self.short.ids(place), [stop for _, stop, _ in ranges], domain(sources))
                place += 1
                continue
            ids, lines, many = found[kind]
            parts = [np.asarray(part) for part in islice(ids, many)]
            sources = Counter()
            for line in islice(lines, many):
                sources.update(line["sources"])
            ends = np.cumsum([len(part) for part in parts]).tolist()
            yield Row(parts[0] if many == 1 else np.concatenate(parts), ends, domain(sources))


def domain(sources: Counter[str] | dict[str, int]) -> str:
    """The source that most tokens are of."""
    return max(sources, key=lambda name: (sources[name], name))


def _line(row: dict[str, Any]) -> bytes:
    return dumps(row, ensure_ascii=False).encode() + b"\n"
