"""Fits of the laws: known parameters come back, rows are averaged, spikes do not move them, and the effort."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.fit import fit, fit_together
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.laws import ANNEALING, COOLDOWN, HYPERBOLA, LOGARITHM, POWER, SHIFTED, Law, view
from llmtool.methods.temporal_scaling.misfit import NONE
from llmtool.methods.temporal_scaling.points import HUBER, Points, spikes, thin
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling.synthetic import HORIZON, TRUTH, log, losses, schedule


@pytest.mark.parametrize(
    ("law", "made"),
    [(POWER, {"r": 0.2, "b": 0.4}), (SHIFTED, {"r": 0.2, "b": 0.4, "s": 0.01}), (LOGARITHM, {"b": 0.06}),
     (HYPERBOLA, {"r": 0.5, "b": 8.0})],
)  # fmt: skip
def test_plain_laws_are_recovered(law: Law, made: dict[str, float]) -> None:
    steps = np.arange(200.0, 10_001.0, 50.0)
    flat = schedule("constant")
    fitted = fit(law, steps, losses(steps, flat, law, 2.7, 1e-4, 0, None, **made), HORIZON, misfit=NONE)
    truth = losses(np.array([HORIZON]), flat, law, 2.7, 0.0, 0, None, **made)[0]
    assert fitted.predict(np.array([HORIZON]))[0] == pytest.approx(truth, rel=2e-3)
    held = fitted.parameters()
    assert held["b"] == pytest.approx(made["b"], rel=0.15)


def test_annealing_is_recovered() -> None:
    steps = np.arange(1000.0, 20_001.0, 100.0)
    planned = schedule("cosine")
    fitted = fit(ANNEALING, steps, losses(steps, planned, ANNEALING, noise=1e-4), HORIZON, planned)
    assert fitted.parameters()["gain"] == pytest.approx(TRUTH["gain"], rel=0.1)


def test_outliers_do_not_move_a_fit() -> None:
    steps = np.arange(1000.0, 10_001.0, 100.0)
    planned = schedule("constant")
    clean = losses(steps, planned)
    spiked = clean.copy()
    spiked[[10, 40, 70]] *= 1.5
    ends = [fit(COOLDOWN, steps, each, HORIZON, planned).predict(np.array([HORIZON]))[0] for each in (clean, spiked)]
    assert ends[1] == pytest.approx(ends[0], rel=2e-3)


def test_noisy_rows_are_averaged() -> None:
    steps = np.arange(1000.0, 20_001.0)
    planned = schedule("constant")
    points = thin(steps, losses(steps, planned, noise=0.02))
    assert len(points.steps) <= 60
    exact = np.log(losses(points.steps, planned, noise=0.0))
    assert np.abs(points.log_loss - exact).max() < 0.006
    assert (points.sd > HUBER).all()
    smooth = thin(steps, losses(steps, planned, noise=0.0))
    np.testing.assert_allclose(smooth.sd, HUBER, rtol=2e-3)


def points_apart(noise: float) -> Points:
    """Points every hundredth of a run, whose last twentieth stands 0.2% above a law that is 0 everywhere."""
    steps = np.linspace(100.0, 10_000.0, 100)
    return Points(steps, np.where(steps > 9500, 2e-3, 0.0), np.full(100, noise))


def test_the_last_points_lie_on_the_law_as_far_as_they_are_sure() -> None:
    told = np.zeros(100)
    assert points_apart(0.0).apart(told) == pytest.approx(2e-3, rel=0.01)
    assert points_apart(1e-2).apart(told) == 0  # noise of 1% in each of five explains it
    sd = 2e-3 / np.sqrt(5)
    assert points_apart(2e-3).apart(told) == pytest.approx(2e-3 * (1 - (sd / 2e-3) ** 2))
    assert points_apart(0.0).apart(told + 2e-3 * (points_apart(0.0).steps > 9500)) == 0
    spiked = points_apart(0.0)
    spiked.log_loss[-1], spiked.noise[-1] = 0.3, 0.3
    assert spiked.apart(told) == pytest.approx(2e-3, rel=0.01)


def test_a_law_that_misses_the_last_points_begins_at_them() -> None:
    """A fall that accelerates is no power law: what is told of the next steps begins where the curve is."""
    steps = np.arange(100.0, 8_001.0, 100.0)
    loss = 3.0 - 0.4 * (steps / 8_000) ** 2
    made = fit(POWER, steps, loss, HORIZON)
    exact, last = thin(steps, loss), steps > 7_600
    told = POWER.log_loss(made.theta, made.view(exact.steps))
    left = abs(exact.apart(told))
    moved = POWER.log_loss(made.theta, made.view(steps)) - np.log(loss)
    assert left < 2e-4
    assert abs(moved[last].mean()) < 0.2 * np.abs(moved).max()


def test_spikes_are_told_by_less_than_their_height() -> None:
    steps = np.geomspace(500.0, HORIZON, 60)
    falling, sd = np.log(losses(steps, schedule("wsd"), noise=0.0)), np.full(60, 2e-3)
    assert not spikes(falling, sd).any()
    assert not spikes(np.concatenate([falling[:-1], falling[-1:] - 0.1]), sd).any()  # the rate may have jumped there
    jumped = falling + 0.1 * (np.arange(60) >= 45)
    assert not spikes(jumped, sd).any()
    spiked = falling.copy()
    spiked[[34, 45, 59]] += [0.3, -0.2, 0.1]
    found = spikes(spiked, sd)
    np.testing.assert_allclose(found[[34, 45]], [0.3, 0.2], rtol=0.1)
    assert found[59] > 0.05
    found[[34, 45, 59]] = 0
    assert found.max() < 0.03  # a neighbour may stand out of where the curve is steep


def test_one_law_for_runs_with_other_schedules() -> None:
    steps = np.arange(1000.0, 20_001.0, 100.0)
    plans = {shape: schedule(shape) for shape in ("constant", "cosine", "wsd")}
    reference = plans["constant"].total
    theta = np.log([2.7, *TRUTH.values()])
    made = {
        shape: np.exp(COOLDOWN.log_loss(theta, view(steps, HORIZON, plan, reference))) for shape, plan in plans.items()
    }
    fits = fit_together(COOLDOWN, [(steps, made[shape], HORIZON, plans[shape]) for shape in ("constant", "cosine")])
    unseen = replace(fits[0], schedule=plans["wsd"])
    np.testing.assert_allclose(unseen.predict(steps), made["wsd"], rtol=1e-3)
    assert not np.allclose(made["wsd"], made["cosine"], rtol=5e-3)


def test_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of laws, which a machine's speed does not change: a second and some on a core of 2024."""
    calls = []
    evaluate = Law.log_loss

    def counted(self: Law, theta: Any, points: Any) -> Any:
        calls.append(1)
        return evaluate(self, theta, points)

    monkeypatch.setattr(Law, "log_loss", counted)
    run = prepare(log("cosine", every=20), until="50%")
    fit(COOLDOWN, *run.seen(), run.horizon, run.schedule)
    alone = len(calls)
    forecast(run)
    assert 0 < alone < 1500  # 489
    assert len(calls) - alone < 20_000  # 6,752
