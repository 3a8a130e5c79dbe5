"""The law over positions."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import reference
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.positions import TemporalLaw, hyperbolas, regression_r2, uniformity
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling.synthetic import log, position_log


def test_hyperbolas_equal_the_definition() -> None:
    g, a2, k = np.array([1.5, 1.2, 1.1]), np.array([3.0, 2.5, 2.2]), 1.5
    losses = np.array([
        [reference.hyperbola_over_positions(i, g[step] / k, 1 / k, a2[step]) for i in range(1, 41)]
        for step in range(3)
    ])  # fmt: skip
    made = hyperbolas(np.arange(3.0), losses)
    assert made.k == pytest.approx(k, rel=1e-3)
    np.testing.assert_allclose(made.g, g, rtol=1e-3)
    np.testing.assert_allclose(made.a2, a2, rtol=1e-3)
    assert made.r2 == pytest.approx(1.0)


def test_noise_common_to_all_steps_is_found_and_does_not_hide_k() -> None:
    series = position_log().positions["val"]
    made = hyperbolas(series.steps, series.values)
    assert made.k == pytest.approx(1.5, rel=0.2)
    assert made.common_share > 0.9
    assert made.common.std() == pytest.approx(0.05, rel=0.3)


def test_the_end_is_told_from_half_and_auto_takes_the_law() -> None:
    made = forecast(prepare(position_log(), until="50%"))
    assert made.fit.name == "temporal"
    assert "losses by position" in made.why
    assert made.final.value == pytest.approx(float(made.run.loss[-1]), rel=0.01)
    assert made.final.low <= made.run.loss[-1] <= made.final.high


def test_regression_of_the_parameters() -> None:
    run = prepare(position_log(), until="100%")
    fitted = TemporalLaw().fit(run)
    shapes = hyperbolas(*run.seen_at_positions())
    r2 = regression_r2(fitted, shapes)
    assert r2["g"] > 0.97
    assert r2["a2"] > 0.99
    held = fitted.parameters()
    assert held["k"] == shapes.k
    at = fitted.at_positions(np.array([4000.0]))[0]
    assert at.mean() == pytest.approx(fitted.predict(np.array([4000.0]))[0], rel=1e-9)
    spread = fitted.draws(np.array([4000.0]), np.random.default_rng(0).standard_normal((400, 10))).std()
    assert 1e-5 < spread < 0.02


def test_nothing_later_is_looked_at() -> None:
    whole = position_log()
    series = whole.positions["val"]
    cut = np.where(series.steps[:, None] > 2000, 9.0, series.values)
    spoiled = replace(whole, positions={"val": replace(series, values=cut)})
    fits = [TemporalLaw().fit(prepare(each, until="50%")) for each in (whole, spoiled)]
    np.testing.assert_array_equal(fits[0].coefficients, fits[1].coefficients)
    assert TemporalLaw().fit(prepare(whole, until="50%"), 1000.0).until == 1000.0


def test_uniform_learning() -> None:
    series = position_log(noise=1e-4).positions["val"]
    shares = uniformity(hyperbolas(series.steps, series.values), series.values)
    assert np.mean(shares) == pytest.approx(1.0)
    np.testing.assert_allclose(shares, 1.0, atol=0.2)
    late_only = series.values.copy()
    late_only[:, :32] = late_only[0, :32]
    assert uniformity(hyperbolas(series.steps, late_only), late_only)[:2] == pytest.approx([0.0, 0.0])


def test_few_evaluations_are_refused() -> None:
    with pytest.raises(UserError, match="evaluations by position"):
        TemporalLaw().fit(prepare(position_log(), until="9%"))
    with pytest.raises(UserError, match="losses by position"):
        forecast(prepare(log(), until="50%"), "temporal")
