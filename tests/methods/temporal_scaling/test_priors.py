"""What is known of a law's parameters before a run is looked at."""

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.fit import expected, fit, usual
from llmtool.methods.temporal_scaling.laws import COOLDOWN, SHORTEST, USUAL_FALL
from llmtool.methods.temporal_scaling.schedule import Plan, Schedule
from tests.methods.temporal_scaling.synthetic import losses


def test_a_gain_lies_further_above_its_prior_than_below() -> None:
    """Below, it is sought further off than other projects lie, but what was found is not made less sure by that."""
    prior = usual(COOLDOWN, 1.0)
    place = 1 + [parameter.name for parameter in COOLDOWN.parameters].index("gain")
    gain = COOLDOWN.parameters[place - 1]
    above, below = np.hypot(gain.sd, gain.above), np.hypot(gain.sd, gain.below)
    assert gain.sd < below < above
    for moved, sought, held in ((-0.5, below, gain.sd), (0.5, above, above)):
        theta = prior.centre.copy()
        theta[place] += moved
        assert np.linalg.norm(prior.missed(theta)) == pytest.approx(0.5 / sought)
        assert np.linalg.norm(prior.held(theta)[:, place]) == pytest.approx(1 / held)
    theta = prior.centre.copy()
    theta[place - 1] += 0.1
    assert np.linalg.norm(prior.missed(theta)) == pytest.approx(0.1 / COOLDOWN.parameters[place - 2].sd)


@pytest.mark.parametrize(
    ("plan", "fall"),
    [(Plan("wsd", 0.0, 0.28), 0.28), (Plan("wsd", 0.1, 0.7), 0.7), (Plan("linear", 0.0), 1.0),
     (Plan("cosine", 0.0), 0.744), (Plan("constant"), 0.0)],
)  # fmt: skip
def test_the_longer_a_fall_the_more_it_is_expected_to_take_off(plan: Plan, fall: float) -> None:
    """A straight fall has its own length, and a cosine that of the straight one with its variance in time, which is
    12 (1/4 - 2/pi^2) = 0.754^2 with its first two per cent."""
    schedule = plan.schedule(10_000)
    assert schedule.fall == pytest.approx(fall, rel=3e-3)
    gains = [next(p.centre for p in expected(COOLDOWN, s) if p.name == "gain") for s in (None, schedule)]
    assert gains[1] / gains[0] == pytest.approx((fall / USUAL_FALL) ** 0.4 if fall else 1.0, rel=3e-3)


def test_a_jump_of_the_rate_counts_as_the_shortest_fall() -> None:
    jump = Schedule(np.array([0.0, 8000, 8001, 10_000]), np.array([1.0, 1.0, 0.2, 0.2]), 0.0)
    assert jump.fall < SHORTEST
    gain = next(p.centre for p in expected(COOLDOWN, jump) if p.name == "gain")
    assert gain == pytest.approx(0.39 * (SHORTEST / USUAL_FALL) ** 0.4)


def test_falls_that_lie_far_apart_are_one_long_one() -> None:
    twice = Schedule(np.array([0.0, 1000, 1001, 9000, 9001, 10_000]), np.array([1.0, 1.0, 0.5, 0.5, 0.1, 0.1]), 0.0)
    assert twice.fall == 1.0
    rising = Schedule(np.array([0.0, 5000, 10_000]), np.array([0.5, 0.5, 1.0]), 0.0)
    assert rising.fall == 0.0


@pytest.mark.parametrize("plan", [Plan("wsd", 0.0, 0.2), Plan("wsd", 0.0, 0.7), Plan("cosine"), Plan("linear")])
def test_a_rate_that_trembles_falls_where_it_falls(plan: Plan) -> None:
    exact, steps = plan.schedule(10_000), np.linspace(0, 10_000, 1000)
    eta = exact.rate(steps) * (1 + 5e-3 * np.random.default_rng(0).uniform(-1, 1, len(steps)))
    assert Schedule(steps, eta / eta.max(), 0.0).fall == pytest.approx(exact.fall, rel=0.02)


def test_a_gain_below_what_its_schedule_lets_expect_may_be_more() -> None:
    """Between the centre of a short fall and that of a line to the end: only the latter leaves room above."""
    steps, line = np.arange(200.0, 8001, 200), Plan("linear", 0.0, peak=8e-4).schedule(20_000)
    made = fit(COOLDOWN, steps, losses(steps, line, gain=0.42), 20_000, line)
    place = 1 + [parameter.name for parameter in COOLDOWN.parameters].index("gain")
    made.theta[place] = np.log(0.45)
    end = np.array([20_000.0])
    assert made.lower(end)[0] > 0.01
    made.theta[place] = np.log(0.68)
    assert made.lower(end)[0] == 0.0
