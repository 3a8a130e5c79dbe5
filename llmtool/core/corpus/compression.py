"""gzip, bzip2, xz and Zstandard recognised by content, unpacked as a stream in bounded memory.

All allow several members (frames, streams) one after another, as `cat a.gz b.gz`, bgzip, pbzip2 and pzstd write them.
A stream that ends inside a member is an error, never a shorter corpus.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from itertools import chain
from typing import Any

from llmtool.core.corpus.blocks import BLOCK
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError

_GZIP = b"\x1f\x8b\x08"
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # a block, or the end: `BZh9` alone could be a word of a text
_XZ = b"\xfd7zXZ\0"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50..0x5f; pzstd begins its files so

# A block of Zstandard is at least 4 bytes for at most 128 KiB, and the library bounds what it takes, not what it
# gives. 1 KiB at a time keeps a hostile file's output below 32 MiB (64 while it is joined).
_ZSTD_INPUT = 1024
# `zstd --long=31`, the longest there is; large public dumps use it. Taken only if a frame asks for it.
_ZSTD_WINDOW = 1 << 31
# The two others keep what is not unpacked yet, so how far they are is known to within one piece. `xz -9` takes 65 MiB.
_PIECE = 1 << 16
_XZ_MEMORY = 1 << 31
_LOOK = 10  # bytes that tell the formats


def peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """At least the first `size` bytes (fewer if there are no more), and an iterator over all bytes, these included."""
    following = iter(chunks)
    parts: list[bytes] = []
    held = 0
    for chunk in following:
        parts.append(chunk)
        held += len(chunk)
        if held >= size:
            break
    head = b"".join(parts)
    return head, chain([head] if head else [], following)


def packing(head: bytes) -> str | None:
    """The format's name, if a stream that begins so is packed."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_XZ):
        return "xz"
    if _BZIP2.match(head):
        return "bzip2"
    skippable = len(head) >= 4 and head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5
    return "Zstandard" if head.startswith(_ZSTD) or skippable else None


@dataclass(slots=True)
class Place:
    """Where a reading of a packed stream stands.

    packed: bytes that were taken in and used up; unpacked: bytes that were given out.
    members: (packed, unpacked) at the beginning of each member so far; unpacking may begin at any of them.
    """

    packed: int = 0
    unpacked: int = 0
    members: list[tuple[int, int]] = field(default_factory=list)

    def begin(self) -> None:
        """A member begins here."""
        self.members.append((self.packed, self.unpacked))


def unpack(chunks: Iterable[bytes], source: str, place: Place | None = None) -> Iterator[bytes]:
    """The bytes as they are, or unpacked if they begin as a packed stream does; `place` is kept up to date."""
    head, chunks = peek(chunks, _LOOK)
    packed = packing(head)
    if packed is None:
        return chunks
    place = Place() if place is None else place
    if packed == "gzip":
        return _gunzip(chunks, source, place)
    if packed == "Zstandard":
        return _unzstd(chunks, source, place)
    return _expand(chunks, source, place, packed, *(_bzip2() if packed == "bzip2" else _xz()))


def _truncated(kind: str, source: str) -> UserError:
    return UserError(f"the {kind} stream ends too early", where=source, hint="the file is truncated: fetch it again")


def _corrupt(kind: str, source: str, error: Exception) -> UserError:
    return UserError(f"corrupt {kind} stream: {error}", where=source, hint="the file is damaged: fetch it again")


def _gunzip(chunks: Iterable[bytes], source: str, place: Place) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)  # 31: gzip's header and checksum; at most BLOCK bytes come back at a time
    place.begin()
    taken = 0
    for data in chunks:
        taken += len(data)
        while data:
            if stream.eof:
                data = data.lstrip(b"\0")  # tar and tape pad with zeros
                if not data:
                    break
                stream = zlib.decompressobj(wbits=31)
                place.packed = taken - len(data)
                place.begin()
            try:
                output = stream.decompress(data, BLOCK)
            except zlib.error as error:
                raise _corrupt("gzip", source, error) from None
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
            place.packed, place.unpacked = taken - len(data), place.unpacked + len(output)
            if output:
                yield output
    if not stream.eof:
        raise _truncated("gzip", source)


def _bzip2() -> tuple[Callable[[], Any], type[Exception]]:
    from bz2 import BZ2Decompressor

    return BZ2Decompressor, OSError


def _xz() -> tuple[Callable[[], Any], type[Exception]]:
    from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

    return lambda: LZMADecompressor(FORMAT_XZ, _XZ_MEMORY), LZMAError


def _expand(
    chunks: Iterable[bytes], source: str, place: Place, kind: str, new: Callable[[], Any], fault: type[Exception]
) -> Iterator[bytes]:
    """bzip2 and xz, which the standard library unpacks in one way; `fault` is what it raises."""
    stream = new()
    place.begin()
    taken = 0
    for data in (chunk[start : start + _PIECE] for chunk in chunks for start in range(0, len(chunk), _PIECE)):
        taken += len(data)
        while True:
            if stream.eof:
                data = data.lstrip(b"\0")  # xz pads with zeros
                if not data:
                    break
                stream = new()
                place.packed = taken - len(data)
                place.begin()
            try:
                output = stream.decompress(data, BLOCK)
            except fault as error:
                raise _corrupt(kind, source, error) from None
            data = stream.unused_data if stream.eof else b""
            place.packed, place.unpacked = taken - len(data), place.unpacked + len(output)
            if output:
                yield output
            if not stream.eof and stream.needs_input:
                break
    if not stream.eof:
        raise _truncated(kind, source)


def _unzstd(chunks: Iterable[bytes], source: str, place: Place) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    stream = decompressor.decompressobj()
    place.begin()
    taken = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_INPUT):
            data = chunk[start : start + _ZSTD_INPUT]
            taken += len(data)
            while data:
                if stream.eof:
                    stream = decompressor.decompressobj()
                    place.begin()
                try:
                    output = stream.decompress(data)
                except zstandard.ZstdError as error:
                    raise _corrupt("Zstandard", source, error) from None
                data = stream.unused_data if stream.eof else b""
                place.packed, place.unpacked = taken - len(data), place.unpacked + len(output)
                if output:
                    yield output
    if not stream.eof:
        raise _truncated("Zstandard", source)
