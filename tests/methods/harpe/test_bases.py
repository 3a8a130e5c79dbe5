"""Bases: the published table and its checksum, our search against its literal definition, ranges and files."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool.core.run.errors import UserError
from llmtool.methods.harpe import bases, reference

TABLE = (
    "1.00 1.15 1.30 1.45 2.17 2.20 2.23 2.47 2.50 2.65 2.68 2.71 2.74 2.80 2.83 2.92 3.01 3.04 3.10 3.13 3.16 3.22 "
    "3.43 3.46 3.61 3.88 4.09 4.15 4.39 4.45 4.51 4.54"
)
SEARCHED = [
    0, 1, 5, 6, 9, 13, 14, 18, 23, 26, 28, 29, 35, 36, 41, 42, 43, 53, 56, 62, 70, 72, 75, 78, 90, 104, 105, 117, 125,
    131, 132, 133,
]  # fmt: skip


def test_the_published_table() -> None:
    made = bases.paper(32, (1e6, 5e6))
    assert made == [pytest.approx(float(word) * 1e6, rel=1e-12) for word in TABLE.split()]
    assert all((base - 1e6) % 30_000 == 0 for base in made)
    assert made == sorted(made)


def test_fewer_heads_take_even_ranks() -> None:
    table = bases.paper(32, (1e6, 5e6))
    assert bases.paper(8, (1e6, 5e6)) == [table[round(h * 31 / 7)] for h in range(8)]
    assert bases.paper(2, (1e6, 5e6)) == [table[0], table[31]]
    with pytest.raises(UserError, match="32 bases"):
        bases.paper(40, (1e6, 5e6))


def test_uniform() -> None:
    assert bases.uniform(5, (1e6, 5e6)) == [1e6, 2e6, 3e6, 4e6, 5e6]
    assert bases.uniform(1, (1e6, 5e6)) == [5e6]


def test_the_range_follows_the_target() -> None:
    assert bases.range_for(131_072, 1e4) == (1e6, 5e6)
    assert bases.range_for(65_536, 1e4) == (5e5, 2.5e6)
    assert bases.range_for(32_768, 5e5) == (5e5, 1.25e6)  # never below the model's own
    assert bases.range_for(4096, 5e5) == (5e5, 5e5)


def test_the_worked_answer_of_the_search() -> None:
    candidates = [1e6 + 30_000 * i for i in range(134)]
    chosen = bases.choose(candidates, 32, 128, 2048)
    assert chosen[:6] == [0, 5, 14, 90, 72, 125]
    assert sorted(chosen) == SEARCHED
    assert bases.search(32, 128, (1e6, 5e6)) == [1e6 + 30_000 * i for i in SEARCHED]
    assert len({*SEARCHED} & {*bases.GRID}) < 12  # it does not give the paper's table, and nobody may say so


@settings(max_examples=15, deadline=None)
@given(st.floats(50, 5e4), st.floats(1.01, 1.3), st.integers(2, 5), st.sampled_from([8, 16, 32]), st.integers(150, 260))
def test_the_search_is_its_definition(first: float, ratio: float, heads: int, size: int, window: int) -> None:
    candidates = [first * ratio**i for i in range(9)]
    found = [reference.extrema(reference.waveform(base, size, window)) for base in candidates]
    if not all(peaks and valleys for peaks, valleys in found):
        with pytest.raises(UserError, match="no peak"):
            bases.choose(candidates, heads, size, window)
        return
    assert bases.choose(candidates, heads, size, window) == reference.search(candidates, heads, size, window)


def test_waveforms_start_near_half_the_size() -> None:
    wave = reference.waveform(1e6, 128, 4)
    assert wave[0] == pytest.approx(64, abs=4)
    assert reference.extrema([0, 1, 0, -1, 0, 0, 1, 1, 0]) == ([2], [4])  # plateaus are no extrema
    assert reference.near([1, 10], [4, 11]) == pytest.approx((3 + 1) / 2)


def test_turning_is_a_rotation() -> None:
    x = [0.3, -1.2, 0.7, 2.0]
    turned = reference.turn(x, 5, 100.0)
    assert math.hypot(*turned) == pytest.approx(math.hypot(*x))
    for pair in (0, 1):
        angle = 5 * 100.0 ** (-2 * pair / 4)
        a, b = x[pair], x[pair + 2]
        assert turned[pair] == pytest.approx(a * math.cos(angle) - b * math.sin(angle))
        assert turned[pair + 2] == pytest.approx(b * math.cos(angle) + a * math.sin(angle))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1e5, 2e5, 3e5]", "not a list of 2 bases"),
        ("[1e5, true]", "base True: not a number"),
        ("[1e5, 0.5]", "base 0.5: wanted 1 to"),
        ("[1e5, NaN]", "base nan: not a number"),
        ("[[1e5, 2e5], [1e5, 2e5]]", "bases of 2 layers; the model has 3"),
        ("{}", "not a list of 2 bases"),
        ("nonsense", "not JSON"),
    ],
)
def test_files_of_bases_are_checked(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bases.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        bases.read(file, 2, 3)


def test_files_of_bases(tmp_path: Path) -> None:
    file = tmp_path / "bases.json"
    file.write_text(json.dumps([200_000, 4e5]))
    assert bases.read(file, 2, 3) == [2e5, 4e5]
    with pytest.raises(UserError, match="no such file"):
        bases.read(tmp_path / "none", 2, 3)
