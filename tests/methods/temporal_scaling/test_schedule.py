"""Schedules from names, from logs, and from logs that end early."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.schedule import KNOTS, Plan, Schedule, from_log
from tests.methods.temporal_scaling.synthetic import log, schedule

LOSS = {"train": Series(np.array([1.0, 2.0]), np.array([3.0, 2.0]))}


def logged(steps: list[float], rates: list[float]) -> Log:
    return Log("log", LOSS, rate=Series(np.array(steps), np.array(rates)))


def test_shapes_by_name() -> None:
    at = np.array([0.0, 50.0, 100.0, 550.0, 900.0, 1000.0])
    expected = {
        "constant": [0, 0.5, 1, 1, 1, 1],
        "linear": [0, 0.5, 1, 0.55, 0.2, 0.1],
        "cosine": [0, 0.5, 1, 0.55, 0.1 + 0.9 * (1 + np.cos(np.pi * 8 / 9)) / 2, 0.1],
        "wsd": [0, 0.5, 1, 1, 0.55, 0.1],
    }
    for shape, rates in expected.items():
        made = Plan(shape).schedule(1000.0, 100.0)  # type: ignore[arg-type]
        np.testing.assert_allclose(made.rate(at), rates, atol=2e-3, err_msg=shape)


def test_area_is_the_sum_of_the_rates() -> None:
    made = schedule("cosine", 2000.0, 200.0)
    steps = np.array([200.0, 777.0, 2000.0])
    sums = [made.rate(np.arange(1, step + 1)).sum() for step in steps]
    np.testing.assert_allclose(made.area(steps), sums, rtol=6e-3)
    assert made.total == pytest.approx(sums[-1], rel=1e-3)
    assert Schedule(np.array([0.0, 100.0]), np.array([0.0, 1.0]), 0.0).area(np.array([50.0, 100.0])).tolist() == [
        12.5,
        50,
    ]
    assert (made.decays_after(1000.0), made.decays_after(1999.0)) == (True, False)


def test_a_log_that_leaves_the_warm_up_out() -> None:
    made = from_log(logged([2160, 2288, 2416, 2544], [3e-4, 3e-4, 2e-4, 1e-4]), 2544.0)
    assert made is not None
    assert made.warmup == 2160
    assert made.rate(np.array([1080.0, 2160.0, 2544.0])).tolist() == [0.5, 1.0, pytest.approx(1 / 3)]
    plain = from_log(logged([10, 20, 30], [1.0, 1.0, 1.0]), 30.0)
    assert plain is not None
    assert (plain.warmup, plain.total) == (0.0, 30.0)


def test_a_logged_warm_up_is_seen() -> None:
    made = from_log(logged([1, 50, 100, 200], [0.02, 0.5, 1.0, 0.5]), 200.0)
    assert made is not None
    assert made.warmup == 100


def test_a_jump_is_held_up_to_the_row_that_shows_it() -> None:
    made = from_log(logged([100, 200, 300, 400], [1.0, 0.99, 0.29, 0.28]), 400.0, warmup=0.0)
    assert made is not None
    assert made.rate(np.array([250.0, 299.0, 300.0])).tolist() == [0.99, 0.99, 0.29]
    smooth = from_log(logged([100, 200, 300, 400], [1.0, 0.8, 0.5, 0.3]), 400.0, warmup=0.0)
    assert smooth is not None
    assert smooth.rate(np.array([250.0])).tolist() == [pytest.approx(0.65)]


def test_the_log_wins_over_the_plan_and_the_plan_goes_on() -> None:
    known = logged([100, 200, 300, 400], [1.0, 1.0, 1.0, 0.9])
    made = from_log(known, 1000.0, 0.0, Plan("linear", end=0.0))
    assert made is not None
    np.testing.assert_allclose(made.rate(np.array([300.0, 400.0, 700.0, 1000.0])), [1, 0.9, 0.3, 0], atol=1e-3)
    with pytest.raises(UserError, match="known to step 400 only"):
        from_log(known, 1000.0)
    flat = from_log(logged([100, 200, 300, 400], [1.0] * 4), 1000.0)
    assert flat is not None
    assert flat.rate(np.array([1000.0])).tolist() == [1.0]


def test_long_logs_are_thinned_where_the_rate_is_straight() -> None:
    steps = np.arange(1.0, 100_001.0)
    rates = np.where(steps < 80_000, 1.0, 1.0 - (steps - 80_000) / 20_000)
    made = from_log(Log("log", LOSS, rate=Series(steps, rates)), 100_000.0, 0.0)
    assert made is not None
    assert len(made.steps) <= KNOTS + 4
    at = np.array([79_000.0, 80_000.0, 90_000.0, 99_999.0])
    np.testing.assert_allclose(made.rate(at), np.interp(at, steps, rates), atol=2e-3)


def test_no_rate_and_no_plan() -> None:
    bare = replace(log(), rate=None)
    assert from_log(bare, 20_000.0) is None
    planned = from_log(bare, 20_000.0, 500.0, Plan("cosine"))
    assert planned is not None
    assert planned.rate(np.array([250.0])).tolist() == [0.5]


@pytest.mark.parametrize(("plan", "warmup"), [(Plan("cosine"), 1000.0), (Plan("cosine", end=2.0), 0.0)])
def test_impossible_plans(plan: Plan, warmup: float) -> None:
    with pytest.raises(UserError):
        plan.schedule(1000.0, warmup)
