"""Parts of big files: where units of work may begin and end inside one.

Lines and separated documents are cut at their ends, one long document where no token is (`safe_cut`), Parquet at row
groups, a tar at samples. A part is a function of the file alone. Of a packed file it is read from the last member
(gzip, bzip2, xz) or frame (Zstandard) before it; where a file is a single one, its parts belong to one reader that goes
through it once (`together`).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

from llmtool.core.corpus.blocks import safe_cut
from llmtool.core.corpus.compression import Place, unpack
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.kinds import Kind


class Ends(Protocol):
    """Where a file may be cut, block after block of its bytes."""

    def take(self, block: bytes) -> None:
        """The next block."""

    def after(self, place: int) -> int | None:
        """The first end in the block at `place` or behind it, counted from the block's beginning."""

    def until(self, place: int | None) -> int:
        """Rows that end in the block up to `place`, in all of it if None; each is counted once."""


class Lines:
    """Ends of lines."""

    def __init__(self) -> None:
        self._block, self._counted = b"", 0

    def take(self, block: bytes) -> None:
        """The next block."""
        self._block, self._counted = block, 0

    def after(self, place: int) -> int | None:
        """The first line end that leaves `place` bytes before it, or more."""
        return self._block.find(b"\n", max(0, place - 1)) + 1 or None

    def until(self, place: int | None) -> int:
        """Lines that end up to there."""
        end = len(self._block) if place is None else place
        found = self._block.count(b"\n", self._counted, end)
        self._counted = end
        return found


class Separators:
    """Ends of separators, found from left to right as the reader finds them, over the borders of blocks too."""

    def __init__(self, separator: bytes) -> None:
        self._separator, self._rest = separator, b""
        self._ends: list[int] = []
        self._counted = 0

    def take(self, block: bytes) -> None:
        """The next block."""
        size = len(self._separator)
        *ended, rest = (self._rest + block).split(self._separator)
        self._ends = [end - len(self._rest) for end in accumulate(len(text) + size for text in ended)]
        self._rest, self._counted = rest[max(0, len(rest) - size + 1) :], 0

    def after(self, place: int) -> int | None:
        """The first separator that ends there or later."""
        found = bisect_left(self._ends, place)
        return self._ends[found] if found < len(self._ends) else None

    def until(self, place: int | None) -> int:
        """Documents that end up to there."""
        end = len(self._ends) if place is None else bisect_left(self._ends, place + 1)
        found, self._counted = end - self._counted, end
        return found


class Inside:
    """Places inside one document where no token is cut; no row ends there."""

    def take(self, block: bytes) -> None:
        """The next block."""
        self._block = block

    def after(self, place: int) -> int | None:
        """The last such place of the block, if it is not before `place`."""
        cut = safe_cut(self._block[place:])
        return place + cut if cut else None

    def until(self, place: int | None) -> int:
        """None."""
        return 0


def plain_parts(stream: Input, kind: Kind | None, size: int, ends: Ends) -> Iterator[Input]:
    """A plain file in parts of about `size` bytes; rows before each are counted: they keep their numbers."""
    place = Place()

    def blocks() -> Iterator[bytes]:
        for block in stream.chunks():
            place.packed += len(block)
            yield block

    for start, end, row, _, last in _cuts(blocks(), place, size, ends, plain=True):
        part = replace(stream, start=start, end=end, size=end - start, first_row=row, kind=kind)
        yield _inside(part, ends, last)


def packed_parts(stream: Input, kind: Kind | None, size: int, ends: Ends) -> Iterator[Input]:
    """A packed file in parts that come from about `size` bytes on disk; it is unpacked once for that."""
    place, before = Place(), 0
    for start, end, row, packed, last in _cuts(unpack(stream.chunks(), stream.source, place), place, size, ends):
        while len(place.members) > 1 and place.members[1][1] <= start:
            del place.members[0]
        part = replace(stream, start=start, end=end, size=packed - before, first_row=row, kind=kind)
        yield _inside(replace(part, member=place.members[0]), ends, last)
        before = packed


def _inside(part: Input, ends: Ends, last: bool) -> Input:
    return replace(part, begun=part.start > 0, more=not last) if isinstance(ends, Inside) else part


def counted_parts(stream: Input, kind: Kind, size: int, groups: Iterable[tuple[int, int, int]]) -> Iterator[Input]:
    """A file of groups of rows, each (where it ends, its rows, its bytes), in parts of whole groups."""
    start = row = rows = held = last = 0
    for end, more, disk in groups:
        rows, held, last = rows + more, held + disk, end
        if held >= size:
            yield replace(stream, start=start, end=end, size=held, first_row=row, kind=kind)
            start, row, rows, held = end, row + rows, 0, 0
    if start < last:
        yield replace(stream, start=start, end=last, size=held, first_row=row, kind=kind)


def _cuts(
    blocks: Iterator[bytes], place: Place, size: int, ends: Ends, *, plain: bool = False
) -> Iterator[tuple[int, int, int, int, bool]]:
    """(start, end, rows before, bytes on disk up to the end, whether it is the last) of each part."""
    start = at = row = rows = begun = 0
    held: tuple[int, int, int, int] | None = None  # given out when it is known that more follows
    for block in blocks:
        ends.take(block)
        used = 0
        while place.packed - begun >= size:
            least = begun + size - at if plain else 0  # where on disk a byte of a packed block lies, nobody knows
            cut = ends.after(max(used + 1, least))
            if cut is None:
                break
            if held:
                yield (*held, False)
            end = at + cut
            held = (start, end, row, end if plain else place.packed)
            row += rows + ends.until(cut)
            start, used, rows = end, cut, 0
            begun = end if plain else place.packed
        rows += ends.until(None)
        at += len(block)
    if held:
        yield (*held, start >= at)
    if start < at:
        yield start, at, row, place.packed, True


def together(units: Sequence[Sequence[Input]], mine: Sequence[int]) -> list[list[int]]:
    """Units that one process does in order: those whose parts are unpacked from the same member on."""
    tasks: list[list[int]] = []
    for number in mine:
        first = units[number][0] if units[number] else None
        last = units[tasks[-1][-1]][-1] if tasks and units[tasks[-1][-1]] else None
        if first and last and first.member and (first.source, first.member) == (last.source, last.member):
            tasks[-1].append(number)
        else:
            tasks.append([number])
    return tasks


class Unpacked:
    """A packed file read forward, part after part: it stays open between parts, so each byte is unpacked once."""

    def __init__(self) -> None:
        self._source, self._at, self._left = "", 0, b""
        self._blocks: Iterator[bytes] = iter(())

    def part(self, stream: Input) -> Iterator[bytes]:
        """The bytes of a part, lines of text."""
        assert stream.member is not None
        assert stream.end is not None
        if stream.source != self._source or not stream.member[1] <= self._at <= stream.start:
            self._source, self._at, self._left = stream.source, stream.member[1], b""
            self._blocks = unpack(stream.chunks(), stream.source)
        while self._at < stream.end and (block := self._left or next(self._blocks, b"")):
            first, last = max(0, stream.start - self._at), stream.end - self._at
            wanted, self._left = block[first:last], block[last:]
            self._at += len(block) - len(self._left)
            if wanted:
                yield wanted
