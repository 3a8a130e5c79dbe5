"""gzip and Zstandard streams: any split gives the same bytes, damage is an error, hostile input stays small."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.corpus.compression import peek, unpack
from llmtool.core.run.errors import UserError

TEXT = "".join(f"{number} line of text, строка\n" for number in range(3000)).encode()


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKERS = [pytest.param(gzip.compress, id="gzip"), pytest.param(zst, id="zstd")]


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
    for end in [*range(4, 60), *range(60, len(packed), 101), *range(first - 20, first), *range(first + 1, len(packed))]:
        with pytest.raises(UserError, match=r"^f: the (gzip|Zstandard) stream ends too early"):
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


def test_zero_padding_after_gzip() -> None:
    padded = gzip.compress(b"a") + b"\0" * 512 + gzip.compress(b"b") + b"\0" * 3
    assert b"".join(unpack([padded[:400], padded[400:]], "f")) == b"ab"


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
