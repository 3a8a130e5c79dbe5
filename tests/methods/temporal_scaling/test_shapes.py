"""Schedules told by their logged part."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Shape
from llmtool.methods.temporal_scaling.shapes import known_again
from tests.methods.temporal_scaling.synthetic import HORIZON, log
from tests.methods.temporal_scaling.test_ending import cut

STEPS = np.arange(50.0, HORIZON, 50.0)


def logged(shape: Shape, end: float, share: float, warmup: float = 510.0) -> tuple[np.ndarray, np.ndarray]:
    rate = Plan(shape, end).schedule(HORIZON, warmup).rate(STEPS)
    keep = share * HORIZON >= STEPS
    return STEPS[keep], rate[keep] / rate[keep].max()


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("end", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("warmup", [0.0, 510.0])
def test_a_line_and_a_cosine_go_on(shape: Shape, end: float, share: float, warmup: float) -> None:
    found = known_again(*logged(shape, end, share, warmup), HORIZON)
    assert found is not None
    assert str(found) == f"a {'cosine' if shape == 'cosine' else 'linear fall'} to {100 * end:.0f}% of its peak"
    truth = Plan(shape, end).schedule(HORIZON, warmup).rate(found.steps)
    assert found.rate == pytest.approx(truth, abs=4e-3)


@pytest.mark.parametrize("shape", ["wsd", "wsd-sqrt", "inverse-sqrt", "constant"])
@pytest.mark.parametrize("share", [0.5, 0.85, 0.9])
def test_others_are_not_taken_for_these(shape: Shape, share: float) -> None:
    assert known_again(*logged(shape, 0.1, share), HORIZON) is None


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("wrong", [0.8, 0.9, 1.13, 1.3, 2.0])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_another_horizon_is_not_that_of_the_shape(shape: Shape, wrong: float, share: float) -> None:
    assert known_again(*logged(shape, 0.1, share), wrong * HORIZON) is None


def test_too_little_of_a_fall_tells_nothing() -> None:
    steps, rate = logged("cosine", 0.1, 0.1)
    assert known_again(steps, rate, HORIZON) is None
    steps, rate = logged("linear", 0.0, 0.5)
    assert known_again(steps[::40], rate[::40], HORIZON) is None
    noisy = rate + 5e-3 * np.random.default_rng(0).standard_normal(len(rate))
    assert known_again(steps, noisy, HORIZON) is None


def test_the_program_s_own_horizon_is_believed_a_reader_s_costs_confidence() -> None:
    live, whole = cut("cosine", 0.5), log("cosine")
    told = forecast(prepare(replace(live, horizon=round(HORIZON))))
    by_hand = forecast(prepare(live, horizon=HORIZON))
    known = forecast(prepare(whole, until="50%"))
    assert told.final.value == pytest.approx(known.final.value, rel=1e-3)
    assert by_hand.final.value == pytest.approx(told.final.value, rel=1e-6)
    assert told.why.startswith("the learning rate is a cosine to 10% of its peak so far, and taken to go on as such")
    assert not any("learning rate" in doubt for doubt in told.doubts)
    assert any("supposed to go on as a cosine to 10% of its peak" in doubt for doubt in by_hand.doubts)
    other = forecast(prepare(replace(live, horizon=26_000), horizon=HORIZON))  # which the log does not plan
    assert any("supposed to go on" in doubt for doubt in other.doubts)
    with pytest.raises(UserError, match="give --schedule for the steps up to --horizon"):
        prepare(live, horizon=1.3 * HORIZON)
    with pytest.raises(UserError, match="known to step 10000 of 26,000, which the log plans, only"):
        prepare(replace(live, horizon=26_000))


def test_a_plan_that_the_log_contradicts_costs_confidence() -> None:
    live = cut("linear", 0.5)
    right = forecast(prepare(live, horizon=HORIZON, warmup=500.0, plan=Plan("linear")))
    other = forecast(prepare(live, horizon=HORIZON, warmup=500.0, plan=Plan("linear", 0.0)))
    assert not any("--schedule has" in doubt for doubt in right.doubts)
    assert "--schedule has the learning rate at 51% of its peak at step 10,000, the log at 56%" in other.doubts


def test_a_rate_that_is_off_its_shape_in_any_row_is_another_one() -> None:
    steps, rate = logged("cosine", 0.1, 0.95)
    assert known_again(steps, rate, HORIZON) is not None
    for wobble in (2.5e-3, 3e-3, 4e-3):
        off = wobble * np.sin(steps) * (steps > 0.4 * HORIZON)
        assert known_again(steps, rate + off, HORIZON) is None
