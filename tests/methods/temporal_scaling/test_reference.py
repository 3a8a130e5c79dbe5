"""The fast laws against the literal ones."""

import numpy as np
import pytest

from llmtool.methods.temporal_scaling import reference
from llmtool.methods.temporal_scaling.across_runs import CHINCHILLA, DATA_CONSTRAINED, KAPLAN, Array
from llmtool.methods.temporal_scaling.laws import ANNEALING, COOLDOWN, GAIN_POWER, LAWS, MULTI_POWER, view
from llmtool.methods.temporal_scaling.positions import mean_hyperbola
from llmtool.methods.temporal_scaling.schedule import Plan, Schedule, Shape
from llmtool.methods.temporal_scaling.size_table import Table
from tests.methods.temporal_scaling.synthetic import schedule

HORIZON, WARMUP = 600, 40
STEPS = np.array([60.0, 150.0, 299.0, 480.0, 530.0, 599.0, 600.0])


def literal_rates(planned: Schedule) -> list[float]:
    return [float(rate) for rate in planned.rate(np.arange(WARMUP + 1, HORIZON + 1, dtype=np.float64))]


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "wsd"])
def test_multi_power_equals_its_definition(shape: Shape) -> None:
    planned = schedule(shape, HORIZON, WARMUP)
    r, alpha, gain, c, beta, gamma, constant = 0.2, 0.45, 0.7, 0.13, 0.6, 0.65, 2.5
    theta = np.log([constant, r, alpha, gain, c, beta, gamma, 1.0])
    fast = np.exp(MULTI_POWER.log_loss(theta, view(STEPS, HORIZON, planned)))
    eta = literal_rates(planned)
    a = constant * r * planned.total**alpha
    b = gain * constant * (r * alpha) ** GAIN_POWER
    slow = [
        reference.multi_power(
            int(t) - WARMUP, eta, WARMUP / 2, l0=constant, a=a, alpha=alpha, b=b, c=c, beta=beta, gamma=gamma
        )
        for t in STEPS
    ]
    np.testing.assert_allclose(fast, slow, rtol=1e-3)
    gained = 1 - np.array(slow[-1]) / (constant + constant * r)
    assert shape == "constant" or gained > 0.05  # the schedule matters, so the agreement says something


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "wsd"])
def test_annealing_equals_its_definition(shape: Shape) -> None:
    planned = schedule(shape, HORIZON, 0)
    constant, r, alpha, gain, memory = 2.5, 0.2, 0.45, 0.7, 60.0
    fast = np.exp(ANNEALING.log_loss(np.log([constant, r, alpha, gain, memory]), view(STEPS, HORIZON, planned)))
    eta = planned.rate(np.arange(1, HORIZON + 1, dtype=np.float64)).tolist()
    a, decay = constant * r * planned.total**alpha, np.exp(-1 / memory)
    c = gain * constant * (r * alpha) ** GAIN_POWER * (1 - decay)
    slow = [reference.annealing(int(t), eta, l0=constant, a=a, alpha=alpha, c=c, decay=decay) for t in STEPS]
    np.testing.assert_allclose(fast, slow, rtol=1.5e-3)


def test_a_schedule_of_few_knots_falls_all_along_its_pieces() -> None:
    coarse = Schedule(np.array([0.0, WARMUP, HORIZON]), np.array([0.0, 1.0, 0.1]), float(WARMUP))
    theta = np.log([2.5, 0.2, 0.45, 0.7, 0.13, 0.6, 0.65, 1.0])
    fast = np.exp(MULTI_POWER.log_loss(theta, view(STEPS, HORIZON, coarse)))
    dense = np.exp(MULTI_POWER.log_loss(theta, view(STEPS, HORIZON, schedule("linear", HORIZON, WARMUP))))
    np.testing.assert_allclose(fast, dense, rtol=1e-5)
    falls = view(STEPS, HORIZON, coarse).falls
    assert falls is not None
    assert (falls.before - falls.after).max() < 0.01
    # What has fallen so far fell, on average, at the middle of the part of its piece that lies before t.
    age = view(np.array([WARMUP + 0.5]), HORIZON, coarse).falls
    assert age is not None
    np.testing.assert_allclose(age.age[0][age.done[0] > 0], 0.25)
    np.testing.assert_allclose(age.area[0][age.done[0] > 0], 0.25, rtol=1e-2)


def test_cooldown_is_multi_power_at_p_1_and_gains_later_below() -> None:
    planned = schedule("cosine", HORIZON, WARMUP)
    steps = np.array([300.0, 600.0])
    theta = np.log([2.5, 0.2, 0.45, 0.7, 0.13, 0.6, 0.65, 1.0])
    points = view(steps, HORIZON, planned)
    linear = COOLDOWN.log_loss(theta, points)
    np.testing.assert_array_equal(linear, MULTI_POWER.log_loss(theta, points))
    without = COOLDOWN.log_loss(theta - np.log([1, 1, 1, 1e9, 1, 1, 1, 1]), points)
    theta[-1] = np.log(0.5)
    share = (without - COOLDOWN.log_loss(theta, points)) / (without - linear)
    assert share[0] + 0.1 < share[1] < 1


def test_a_jump_of_the_rate_is_felt_after_it_only() -> None:
    planned = Schedule(np.array([0.0, 10.0, 499.0, 500.0, 1000.0]), np.array([0.0, 1.0, 1.0, 0.1, 0.1]), 10.0)
    flat = Plan("constant").schedule(1000.0, 10.0)
    theta = np.log([2.5, 0.2, 0.45, 0.7, 0.13, 0.6, 0.65, 0.8])
    steps = np.array([300.0, 499.0, 600.0])
    reach = planned.total
    jumped = COOLDOWN.log_loss(theta, view(steps, 1000.0, planned, reach))
    stayed = COOLDOWN.log_loss(theta, view(steps, 1000.0, flat, reach))
    np.testing.assert_allclose(jumped[:2], stayed[:2], atol=1e-9)
    assert jumped[2] < stayed[2] - 0.01


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_every_law_falls_under_a_constant_rate(law: object) -> None:
    assert law in LAWS.values()
    chosen = next(each for each in LAWS.values() if each is law)
    theta = np.log([3.0, *(parameter.centre for parameter in chosen.parameters)])
    steps = np.geomspace(10, 1000, 30)
    curve = chosen.log_loss(theta, view(steps, 1000.0, Plan("constant").schedule(1000.0)))
    assert (np.diff(curve) < 0).all()


def test_mean_over_positions() -> None:
    a0, a1, a2 = 1.8, 0.5, 2.2
    mean = a2 + a0 / a1 * mean_hyperbola(1 / a1, 50)
    assert mean == pytest.approx(reference.mean_over_positions(50, a0, a1, a2), rel=1e-12)


def test_laws_over_sizes_equal_their_definitions() -> None:
    e, a, b, alpha, beta = 1.69, 406.4, 410.7, 0.34, 0.28
    published: Array = np.array([np.log(e), np.log(a), np.log(b), alpha, beta])
    for n, d, unique in ((1e8, 2e9, 2e9), (7e9, 1.4e12, 1e11), (1e9, 4e9, 1e8), (4e9, 5e8, 5e8)):
        run = Table.one(n, d, unique)
        fast = np.exp(CHINCHILLA.log_loss(published, run))[0]
        assert fast == pytest.approx(reference.chinchilla(n, d, e=e, a=a, b=b, alpha=alpha, beta=beta), rel=1e-12)
        repeated = np.exp(DATA_CONSTRAINED.log_loss(np.array([*published, np.log(5.31), np.log(15.39)]), run))[0]
        slow = reference.data_constrained(n, d, unique, e=e, a=a, b=b, alpha=alpha, beta=beta, r_n=5.31, r_d=15.39)
        assert repeated == pytest.approx(slow, rel=1e-9)
        theta = np.array([np.log(8.8e13), np.log(5.4e13), 0.076, 0.095])
        fast = np.exp(KAPLAN.log_loss(theta, run))[0]
        slow = reference.kaplan(n, d, n_c=8.8e13, d_c=5.4e13, alpha_n=0.076, alpha_d=0.095)
        assert fast == pytest.approx(slow, rel=1e-9)
