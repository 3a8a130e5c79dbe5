"""The recipes' tables: intervals over one, two and three seeds, and no difference where there is no pair of seeds."""

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads a script of recipes/ as it runs: its own folder first on the path."""
    monkeypatch.syspath_prepend(str(RECIPES))
    yield importlib.import_module
    for name in ("intervals", "experts_table", "long_context_table"):
        sys.modules.pop(name, None)


def test_intervals_are_students(recipe: Any) -> None:
    intervals = recipe("intervals")
    assert intervals.interval([0.25]) == (0.25, math.inf)
    # t(0.975) with 1 and 2 degrees of freedom is 12.7062 and 4.30265, from tables; the deviations are exact.
    mean, half = intervals.interval([0.1, 0.3])
    assert (mean, half) == (pytest.approx(0.2), pytest.approx(12.7062 * math.sqrt(0.02) / math.sqrt(2), rel=1e-5))
    mean, half = intervals.interval([1.0, 2.0, 3.0])
    assert (mean, half) == (pytest.approx(2), pytest.approx(4.30265 / math.sqrt(3), rel=1e-5))
    assert intervals.difference({1: 3.0, 2: 4.0}, {2: 1.0, 3: 9.0}) == (3.0, math.inf)
    assert intervals.difference({1: 3.0}, {2: 1.0}) is None
    assert intervals.difference({1: 3.0}, {}) is None
    shown = intervals.shown
    assert shown(None, 4) == "-"
    assert shown((0.5, math.inf), 2) == "+0.50 (one seed)"
    assert shown((-0.5, 0.1), 2) == "-0.50 ± 0.10"
    assert shown((0.05, 0.1), 2) == "+0.05 ± 0.10 (open)"
    assert shown((0.125, 0.0625), 1, 100, " points") == "+12.5 ± 6.2 points"
    assert shown((0.0, 0.0), 3) == "the same"
    assert shown((0.0, 0.1), 3) == "+0.000 ± 0.100 (open)"


def experts(variant: str, seed: int, loss: float, **more: Any) -> dict[str, Any]:
    return {"study": "s", "variant": variant, "seed": seed, "loss": loss, "deciles": [loss, loss + 1], "tokens": 100,
            "cpu_seconds": 10.0, "figures": {}, **more}  # fmt: skip


def test_the_table_of_experts_makes_nothing_up(recipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = recipe("experts_table")
    rows = [experts("share", 1, 5.0), experts("share", 2, 5.5), experts("hash", 1, 4.5, best_off=4.75),
            experts("hash", 2, 4.75, best_off=5.5), experts("late", 3, 4.0), experts("once", 1, 6.0)]  # fmt: skip
    by = {row["variant"]: row for row in made.table(rows, "share")}
    assert by["hash"]["over_rival"][0] == -0.625
    assert by["hash"]["deciles_over_rival"][1][1] == pytest.approx(12.7062 * 0.125, rel=1e-5)
    assert (by["late"]["over_rival"], by["late"]["pairs_of_seeds"]) == (None, 0)
    assert by["once"]["over_rival"] == (1.0, math.inf)
    made.show(made.table(rows, "share"), "share")
    lines = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.splitlines()}
    assert "-0.6250 ± 1.5883 (open)" in lines["hash"]
    assert "+0.500 ± 3.177 (open)" in lines["hash"]
    assert "| late | 1 | 4.0000 | - | - | - |" in lines["late"]
    assert "+1.0000 (one seed)" in lines["once"]
    made.show(made.table(rows, "nobody"), "nobody")
    assert "±" not in capsys.readouterr().out.replace("+0.500 ± 3.177 (open)", "")


def test_the_table_of_long_context_makes_nothing_up(recipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = recipe("long_context_table")

    def facts(loss: float, needles: float = 0.0) -> dict[str, float]:
        return {"needles": needles, "needles_far": needles, "loss": loss, "loss_far": loss}

    found = {("abf", "concat", 1): facts(3.0), ("abf", "concat", 2): facts(3.25), ("pi", "concat", 1): facts(3.5, 0.5),
             ("pi", "concat", 2): facts(3.75, 0.5), ("yarn", "concat", 1): facts(2.0),
             ("pi", "nextlong", 1): facts(2.5)}  # fmt: skip
    made.show(made.table(found), 2048)
    concat, yarn, abf, other = (
        next(line for line in capsys_lines if line.startswith(f"| {data} | {method} |"))
        for capsys_lines in [capsys.readouterr().out.splitlines()]
        for data, method in (("concat", "pi"), ("concat", "yarn"), ("concat", "abf"), ("nextlong", "pi"))
    )
    assert concat.endswith("| +50.0 ± 0.0 points | 3.6250 | 3.6250 | +0.5000 ± 0.0000 | needles, loss |")
    assert yarn.endswith("| +0.0 points (one seed) | 2.0000 | 2.0000 | -1.0000 (one seed) | nothing |")
    assert abf.endswith("| - | 3.1250 | 3.1250 | - | - |")
    assert other.endswith("| - | 2.5000 | 2.5000 | - | - |")
