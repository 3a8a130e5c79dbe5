"""Packed streams: any split gives the same bytes, damage is an error, hostile input stays small."""

import bz2
import gzip
import lzma
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.corpus.compression import Place, peek, unpack
from llmtool.core.run.errors import UserError

TEXT = "".join(f"{number} line of text, строка\n" for number in range(3000)).encode()


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKERS = [
    pytest.param(gzip.compress, id="gzip"),
    pytest.param(zst, id="zstd"),
    pytest.param(bz2.compress, id="bzip2"),
    pytest.param(lzma.compress, id="xz"),
]


def split_at(data: bytes, places: list[int]) -> Iterator[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[a:b] for a, b in pairwise(bounds))


@given(st.lists(st.binary(max_size=4)), st.integers(0, 12))
def test_peek_loses_nothing(chunks: list[bytes], size: int) -> None:
    head, everything = peek(chunks, size)
    data = b"".join(chunks)
    assert data.startswith(head)
    assert len(head) >= min(size, len(data))
    assert b"".join(everything) == data


@pytest.mark.parametrize("pack", PACKERS)
@given(
    texts=st.lists(st.binary(max_size=50), min_size=1, max_size=4), places=st.lists(st.integers(0, 1000), max_size=8)
)
def test_any_split_of_any_members(pack: Callable[[bytes], bytes], texts: list[bytes], places: list[int]) -> None:
    packed = b"".join(map(pack, texts))
    assert b"".join(unpack(split_at(packed, places), "f")) == b"".join(texts)


@given(st.binary(max_size=30), st.lists(st.integers(0, 30)))
def test_other_bytes_pass_as_they_are(data: bytes, places: list[int]) -> None:
    assert b"".join(unpack(split_at(b"." + data, places), "f")) == b"." + data


@pytest.mark.parametrize("pack", PACKERS)
def test_every_truncation_is_an_error(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(TEXT) + pack(b"second")
    first = len(pack(TEXT))
    for end in [
        *range(10, 60),
        *range(60, len(packed), 101),
        *range(first - 20, first),
        *range(first + 1, len(packed)),
    ]:
        with pytest.raises(UserError, match=r"^f: the (gzip|Zstandard|bzip2|xz) stream ends too early"):
            list(unpack([packed[:end]], "f"))
    assert b"".join(unpack([packed[:first]], "f")) == TEXT


def test_damage_is_an_error() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 1  # the checksum
    with pytest.raises(UserError, match=r"^f: corrupt gzip stream"):
        list(unpack([bytes(packed)], "f"))
    with pytest.raises(UserError, match=r"^f: corrupt gzip stream"):
        list(unpack([gzip.compress(b"a") + b"garbage"], "f"))
    with pytest.raises(UserError, match=r"^f: corrupt Zstandard stream"):
        list(unpack([zst(b"a") + b"garbage"], "f"))

    for kind, pack in (("bzip2", bz2.compress), ("xz", lzma.compress)):
        packed = bytearray(pack(TEXT))
        packed[len(packed) // 2] ^= 1
        with pytest.raises(UserError, match=f"^f: corrupt {kind} stream"):
            list(unpack([bytes(packed)], "f"))
        with pytest.raises(UserError, match=f"^f: corrupt {kind} stream"):
            list(unpack([pack(b"a") + b"garbage of some length"], "f"))


@pytest.mark.parametrize("pack", [PACKERS[0], PACKERS[3]])
def test_zero_padding(pack: Callable[[bytes], bytes]) -> None:
    padded = pack(b"a") + b"\0" * 512 + pack(b"b") + b"\0" * 4
    assert b"".join(unpack([padded[:400], padded[400:]], "f")) == b"ab"


def test_words_that_begin_like_bzip2_are_text() -> None:
    assert b"".join(unpack([b"BZh9 is a word"], "f")) == b"BZh9 is a word"


@pytest.mark.parametrize("pack", PACKERS[2:])
def test_members_and_how_far_a_reading_is(pack: Callable[[bytes], bytes]) -> None:
    """Unpacking begins again at any member: what parts of packed files hang on."""
    packed, place, found = b"".join(pack(TEXT) for _ in range(5)), Place(), b""
    for block in unpack([packed[at : at + 777] for at in range(0, len(packed), 777)], "f", place):
        found += block
        assert place.unpacked == len(found)
    assert found == TEXT * 5
    assert place.members == [(n * len(pack(TEXT)), n * len(TEXT)) for n in range(5)]
    assert place.packed == len(packed)
    assert b"".join(unpack([packed[place.members[3][0] :]], "f")) == TEXT * 2


def test_skippable_zstd_frames_as_pzstd_writes_them() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"\1\2\3\4"
    assert b"".join(unpack([skippable + zst(b"a") + skippable + zst(b"b")], "f")) == b"ab"


def test_long_windows_are_read() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(TEXT) + compressor.flush()  # beyond the library's own limit of 2^27
    assert b"".join(unpack([packed], "f")) == TEXT


@pytest.mark.parametrize("pack", [pytest.param(lambda data: zlib.compress(data, 9, wbits=31), id="gzip"), PACKERS[1]])
def test_a_bomb_is_unpacked_piecewise(pack: Callable[[bytes], bytes]) -> None:
    size = 400 << 20
    packed = pack(bytes(size))
    assert len(packed) < 1 << 20
    tracemalloc.start()
    unpacked = sum(map(len, unpack([packed], "f")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert unpacked == size
    assert peak < 80 << 20


@pytest.mark.parametrize("pack", PACKERS[2:])
def test_blocks_are_bounded(pack: Callable[[bytes], bytes]) -> None:
    assert max(map(len, unpack([pack(bytes(20 << 20))], "f"))) <= 1 << 20
