"""Pieces counted by the C++ engine: collisions, spilling to disk, counts beyond 32 bits."""

import array
import os
from collections import Counter
from pathlib import Path

import pytest

from llmtool.core.bpe import engine, merge_loop, pretokenizers
from llmtool.core.bpe.engine import PieceCounts
from llmtool.core.bpe.policy import Start, TrainingPolicy
from llmtool.core.bpe.settings import MAX_TOKEN_BYTES
from llmtool.core.bpe.vocabulary import BYTE_ORDER
from llmtool.methods.scaffold_bpe.training import ScaffoldBPE
from tests.core.bpe.arrays import ends_of

_engine = pytest.importorskip("llmtool.core.bpe._engine")


def test_pieces_of_one_hash_are_counted_apart() -> None:
    """Pieces of 16 bytes made to collide: the second half undoes what the hash made of the first."""
    mask = (1 << 64) - 1

    def piece(first: bytes) -> bytes:
        mixed = ((16 * 0x9E3779B97F4A7C15 & mask) ^ int.from_bytes(first, "little")) * 0xD6E8FEB86659FD93
        return first + ((mixed & mask) ^ (mixed >> 64)).to_bytes(8, "little")

    pieces = [piece(f"piece {number:02}".encode()) for number in range(5)]
    counter = _engine.PieceCounter("none", 1)
    counter.add(b"".join(pieces), array.array("Q", range(16, 96, 16)).tobytes())
    assert counter.items() == [(each, 1) for each in sorted(pieces)]


@pytest.mark.parametrize("threads", [1, 3])
def test_counts_are_the_same_when_they_spill(threads: int, sources: list[bytes], tmp_path: Path) -> None:
    text, ends = b"".join(sources), ends_of(sources)
    expected = Counter(piece for source in sources for piece in pretokenizers.split("llama3", source))
    in_memory = _engine.PieceCounter("llama3", threads)
    spilling = _engine.PieceCounter("llama3", threads, 110_000 * threads, str(tmp_path))
    for counter in (in_memory, spilling):
        for _ in range(6):
            counter.add(text, ends)
    assert in_memory.spills == 0
    assert spilling.spills > 70  # so that runs were merged into one on the way
    assert list(tmp_path.iterdir()) == []  # the files have no names
    counts = sorted((piece, 6 * count) for piece, count in expected.items())
    assert in_memory.items() == spilling.items() == counts
    assert in_memory.pieces == spilling.pieces == 6 * expected.total()
    order = bytes(BYTE_ORDER)
    trained = [_engine.train(counter, "bpe", 700, 0, 1024, order).merges for counter in (in_memory, spilling)]
    assert trained[0] == trained[1]
    spilling.add(text, ends)
    assert spilling.items() == sorted((piece, 7 * count) for piece, count in expected.items())


def planted(directory: Path, counts: dict[bytes, int]) -> set[bytes]:
    """Write counts into the records (length, count, bytes) of runs that lie in a directory without a name."""
    found = set()
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            if directory not in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
                continue
        except OSError:  # the listing's own
            continue
        place, end = 0, os.fstat(descriptor).st_size
        while place < end:
            length = int.from_bytes(os.pread(descriptor, 8, place), "little")
            piece = os.pread(descriptor, length, place + 16)
            if piece in counts:
                os.pwrite(descriptor, counts[piece].to_bytes(8, "little"), place + 8)
                found.add(piece)
            place += 16 + length
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc: the unnamed runs cannot be found")
@pytest.mark.parametrize("policy", [merge_loop.BPE(), ScaffoldBPE()], ids=["bpe", "scaffold"])
def test_counts_beyond_32_bits(policy: TrainingPolicy, tmp_path: Path) -> None:
    """Half a terabyte of text says a word so often: planted where counts were spilled, found in sums and in merges."""
    huge = {b" planted": 2**32 + 5, b" rarer": 2**32 + 4, b" wrapped": 2**33, b" many": 3 * 2**40}
    text = b"".join(huge) + b" " + b" ".join(b"word%d" % number for number in range(60_000))
    counts = PieceCounts("gpt2", 1, 1 << 20, str(tmp_path))
    counts.add([text])
    assert counts.spills > 1
    assert planted(tmp_path, huge) == set(huge)
    counts.add([b" planted many many"])
    found = dict(counts.items())
    assert [found[word] for word in huge] == [2**32 + 6, 2**32 + 4, 2**33, 3 * 2**40 + 2]
    made = engine.train(counts, policy, 290, 0, lambda _: None)
    wanted = policy.extend(Start.of_bytes(found), 290, 0, MAX_TOKEN_BYTES, lambda _: None)
    assert made == wanted
    assert made.frequencies == wanted.frequencies
    assert made.frequencies[0] > 3 * 2**40
    assert 2**32 + 4 in made.frequencies  # wrapped at 32 bits, this would be 4
    assert 2**33 in made.frequencies  # and this one nothing


def test_nowhere_to_spill(sources: list[bytes], tmp_path: Path) -> None:
    counter = _engine.PieceCounter("llama3", 2, 1, str(tmp_path / "missing"))
    with pytest.raises(OSError, match=r"cannot spill counts to .*missing: No such file"):
        counter.add(b"".join(sources), ends_of(sources))


def test_frequencies_beyond_32_bits() -> None:
    """5,000 times a run of 2**20 letters: pairs are counted in 64 bits."""
    counter = _engine.PieceCounter("none")
    run = b"a" * 2**20
    for _ in range(5000):
        counter.add(run, ends_of([run]))
    trained = _engine.train(counter, "bpe", 258, 0, 1024, bytes(BYTE_ORDER))
    assert array.array("Q", trained.frequencies).tolist() == [5000 * (2**20 - 1), 5000 * (2**19 - 1)]
