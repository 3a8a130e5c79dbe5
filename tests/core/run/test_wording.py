"""Counts, sizes and times in words."""

import pytest

from llmtool.core.run.wording import counted, prefixed, seconds, size


def test_one_thing_and_many() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]
    assert counted(1, "process", "processes") == "1 process"
    assert counted(3, "process", "processes") == "3 processes"


@pytest.mark.parametrize("count, said", [
    (0, "0 bytes"), (1, "1 byte"), (512, "512 bytes"), (4700, "4.70 KB"), (47_000, "47.0 KB"), (489_846, "490 KB"),
    (4_700_000, "4.70 MB"), (2.7e8, "270 MB"), (2.694e9, "2.69 GB"), (1.2e12, "1,200 GB"),
])  # fmt: skip
def test_sizes(count: float, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize("time, said", [
    (0.004, "0.004 s"), (0.34, "0.34 s"), (4.04, "4 s"), (12.4, "12 s"), (119.4, "119 s"), (200, "3 min 20 s"),
    (7260, "2 h 1 min"),
])  # fmt: skip
def test_times(time: float, said: str) -> None:
    assert seconds(time) == said


def test_prefixes() -> None:
    shown = [prefixed(number) for number in (0, 7, 999, 1000, 805_145_600, 1.5e14, 2e18)]
    assert shown == ["0 ", "7 ", "999 ", "1 k", "805 M", "150 T", "2e+03 P"]
