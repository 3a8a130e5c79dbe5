"""What a benchmark counts with: turns of the timer, ceilings, what is slower than a baseline."""

from itertools import pairwise

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.baseline import slower
from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.bench.kernels import rotations
from llmtool.core.bench.report import markdown, table_rows
from llmtool.core.bench.timer import Timing, measure

CPU = torch.device("cpu")
CEILINGS = Ceilings(1e9, 1e12, "float32")


def test_slower_looks_at_ours_alone() -> None:
    key = {"op": "a", "dtype": "float32", "direction": "forward", "case": {"rows": 1}}
    before = [
        {**key, "implementation": "ours", "own": True, "seconds": 1.0},
        {**key, "implementation": "rival", "own": False, "seconds": 1.0},
    ]
    now = [{**row, "seconds": 1.06} for row in before]
    found, compared = slower(now, before, 1.05)
    assert compared == 1
    assert [row["implementation"] for row in found] == ["ours"]
    assert slower(now, before, 1.07) == ([], 1)
    assert slower(now, [{**row, "case": {"rows": 2}} for row in before], 1.05) == ([], 0)


def test_markdown_without_rows() -> None:
    assert "| case |" in markdown([], "title", ["note"])
    assert list(table_rows([])) == []


def test_timer_takes_turns() -> None:
    order: list[str] = []
    found = measure({"a": lambda _: order.append("a"), "b": lambda _: order.append("b")}, CPU, 0.001)
    assert set(found) == {"a", "b"}
    changes = sum(x != y for x, y in pairwise(order))
    assert changes >= 2 * found["a"].samples
    assert Timing.of([1.0, 2.0, 3.0, 10.0]) == Timing(2.5, 1.0, 1.75, 4.75, 4)


def test_ceilings() -> None:
    assert CEILINGS.floor(1e12, 1.0) == 1.0
    assert CEILINGS.floor(1.0, 1e9) == 1.0
    assert CEILINGS.bound(1e12, 1.0) == "compute"
    assert CEILINGS.best(Ceilings(2e9, 1e11, "float32")) == Ceilings(2e9, 1e12, "float32")
    assert rotations(1.0, CPU) == 1
