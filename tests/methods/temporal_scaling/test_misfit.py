"""The random function by which a law misses a run, against the process that it is the covariance of."""

import numpy as np
import pytest
from scipy.integrate import quad

from llmtool.methods.temporal_scaling.fit import fit, standard_noise
from llmtool.methods.temporal_scaling.laws import COOLDOWN, POWER, Law
from llmtool.methods.temporal_scaling.misfit import NONE, USUAL, Misfit
from llmtool.methods.temporal_scaling.points import HUBER, Points
from tests.methods.temporal_scaling.synthetic import HORIZON, losses, schedule

STEPS = np.geomspace(400.0, 10_000.0, 12)


def test_the_smooth_part_is_an_integrated_wiener_process() -> None:
    """Its covariance is the integral of (x - u)(y - u) over 0 < u < min(x, y), x = log(last / step)."""
    x = np.log(STEPS[-1] / STEPS)
    made = Misfit(smooth=0.03, rough=0.0).covariance(STEPS)
    for a in (0, 4, 9, 11):
        for b in (2, 4, 11):
            exact = 0.03**2 * quad(lambda u, a=a, b=b: (x[a] - u) * (x[b] - u), 0, min(x[a], x[b]))[0]
            assert made[a, b] == pytest.approx(exact, rel=1e-9, abs=1e-15)
    assert made[0, 0] == pytest.approx(0.03**2 * x[0] ** 3 / 3)
    # Its slope drifts, neighbours are missed alike; the last step is not missed at all.
    assert made[0, 1] / np.sqrt(made[0, 0] * made[1, 1]) > 0.98
    assert (made[-1] == 0).all()


def test_the_rough_part_is_independent() -> None:
    made = Misfit(smooth=0.0, rough=0.01).covariance(STEPS)
    np.testing.assert_allclose(made, np.diag((0.01 * np.log(STEPS[-1] / STEPS)) ** 2))


def test_whitened_errors_are_independent() -> None:
    sd = np.full(len(STEPS), HUBER)
    white = USUAL.whitening(STEPS, sd)
    np.testing.assert_allclose(white @ (USUAL.covariance(STEPS) + np.diag(sd**2)) @ white.T, np.eye(12), atol=1e-9)
    np.testing.assert_allclose(NONE.whitening(STEPS, sd), np.eye(12) / HUBER)


def end(misfit: Misfit, bent: float) -> float:
    """The end by a fit to 30% of a run whose early part, up to a tenth of that, lies above the law."""
    steps, planned = np.arange(100.0, 6001.0, 100.0), schedule("constant")
    early = 1 + bent * np.clip(1 - np.log(steps / 100) / np.log(6), 0, 1) ** 2
    made = fit(COOLDOWN, steps, early * losses(steps, planned, noise=1e-4), HORIZON, planned, misfit=misfit)
    return float(made.predict(np.array([HORIZON]))[0])


def test_an_early_transient_does_not_bend_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law alone: that the last points lie on it hides a part of what NONE gets wrong."""
    monkeypatch.setattr(Points, "apart", lambda points, told: 0.0)
    truth = float(losses(np.array([HORIZON]), schedule("constant"), noise=0.0)[0])
    assert abs(end(USUAL, 0.2) / truth - 1) < 0.012
    assert abs(end(NONE, 0.2) / truth - 1) > 1.35 * abs(end(USUAL, 0.2) / truth - 1)
    assert end(NONE, 0.0) == pytest.approx(truth, rel=2e-3)


@pytest.mark.parametrize("law", [POWER, COOLDOWN])
def test_draws_keep_to_what_was_seen(law: Law) -> None:
    """Constant, size and exponent trade against one another; along that line draws went 15% up over the last fifth."""
    planned = schedule("constant")
    steps = np.arange(500.0, 16_001.0, 100.0)
    made = fit(law, steps, losses(steps, planned, noise=1e-4), HORIZON, planned)
    noise = standard_noise(0)
    at = np.array([12_000.0, 16_000.0, HORIZON])
    spread = np.log(made.draws(at, noise) / made.predict(at))
    assert np.abs(spread[:, :2]).max() < 0.01
    low, high = np.quantile(spread[:, 2], (0.05, 0.95))
    assert high == pytest.approx(-low, rel=0.15)
    assert high < 0.01
