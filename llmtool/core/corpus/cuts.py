"""Parts of big files: cut at line ends, plain ones anywhere, packed ones by the text that they hold.

A part is a function of the file alone. Of a packed file it is read from the last member (gzip) or frame (Zstandard)
before it; where a file is a single one, its parts belong to one reader that goes through it once (`together`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmtool.core.corpus.compression import Place, unpack
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.kinds import Kind


def plain_parts(stream: Input, kind: Kind | None, size: int) -> Iterator[Input]:
    """A plain file of lines in parts of about `size` bytes; lines before each are counted: rows keep their numbers."""
    place = Place()

    def blocks() -> Iterator[bytes]:
        for block in stream.chunks():
            place.packed += len(block)
            yield block

    for start, end, row, _ in _cuts(blocks(), place, size, plain=True):
        yield replace(stream, start=start, end=end, size=end - start, first_row=row, kind=kind)


def packed_parts(stream: Input, kind: Kind | None, size: int) -> Iterator[Input]:
    """A packed file of lines in parts that come from about `size` bytes on disk; it is unpacked once for that."""
    place, before = Place(), 0
    for start, end, row, packed in _cuts(unpack(stream.chunks(), stream.source, place), place, size):
        while len(place.members) > 1 and place.members[1][1] <= start:
            del place.members[0]
        yield replace(
            stream, start=start, end=end, size=packed - before, first_row=row, kind=kind, member=place.members[0]
        )
        before = packed


def _cuts(
    blocks: Iterator[bytes], place: Place, size: int, *, plain: bool = False
) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, lines before, bytes on disk up to the end) of each part."""
    start = at = row = lines = begun = 0
    for block in blocks:
        used = 0
        while place.packed - begun >= size:
            least = begun + size - 1 - at if plain else 0  # where on disk a byte of a packed block lies, nobody knows
            cut = block.find(b"\n", max(used, least))
            if cut < 0:
                break
            end = at + cut + 1
            yield start, end, row, end if plain else place.packed
            row += lines + block.count(b"\n", used, cut + 1)
            start, used, lines = end, cut + 1, 0
            begun = end if plain else place.packed
        lines += block.count(b"\n", used)
        at += len(block)
    if start < at:
        yield start, at, row, place.packed


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
