"""A slope of the log loss over the log step that still grows: what is doubted, and how far up the interval reaches."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.doubts import slope_growth, steepening
from llmtool.methods.temporal_scaling.fit import Fit
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.run import Run, prepare
from tests.methods.temporal_scaling.synthetic import log


def test_slope_growth() -> None:
    steps = np.geomspace(100, 10_000, 50)
    assert slope_growth(steps, 2 + steps**-0.5) < 1
    assert slope_growth(steps, steps**-0.5) == pytest.approx(1.0)
    assert slope_growth(steps, 3 / (1 + (steps / 3000) ** 2)) > 1.5


def bent(earlier: float, later: float, until: str = "50%") -> Run:
    """A run at a constant rate whose log loss falls by these slopes over the log step, each in one half of the steps'
    logs up to 10,000 of 20,000."""
    steps = np.arange(10.0, 20_001, 10)
    x = np.log(steps / np.sqrt(500.0 * 10_000))
    loss = np.exp(1.5 + earlier * np.minimum(x, 0) + later * np.maximum(x, 0))
    return prepare(replace(log("constant", every=10), losses={"train": Series(steps, loss)}), until=until)


def test_steepening() -> None:
    """By how much the slope has grown; a rise before it counts as level, and a power law has none."""
    assert steepening(bent(-0.1, -0.3)) == pytest.approx(0.2, rel=0.02)
    assert steepening(bent(0.001, -0.3)) == pytest.approx(0.3, rel=0.02)
    assert steepening(bent(-0.3, -0.1)) == 0.0
    assert steepening(prepare(log("constant"), until="50%")) == 0.0
    assert steepening(prepare(log("wsd"), until="95%")) == 0.0  # a fall of the rate is no growth


@pytest.mark.parametrize(("earlier", "doubt"), [(-0.05, "still grows"), (0.001, "only begun to fall")])
def test_a_slope_that_grows_is_a_doubt(earlier: float, doubt: str) -> None:
    made = forecast(bent(earlier, -0.15))
    assert [doubt in each for each in made.doubts].count(True) == 1
    assert isinstance(made.fit, Fit)
    assert made.fit.steeper == pytest.approx(0.15 + min(earlier, 0), rel=0.1)
    near = forecast(bent(earlier, -0.15, "97%")).fit
    assert isinstance(near, Fit)
    assert near.steeper < 0.5 * steepening(bent(earlier, -0.15, "97%"))


def test_before_the_bend_the_interval_reaches_to_where_the_slope_goes_back() -> None:
    """Large models fall steeply to a loss of 4 and then bend: any law of what is seen up to there ends far too low. The
    interval reaches further up with the log of the steps ahead, and no further down."""
    steps = np.arange(20.0, 6001, 20)
    x = np.log(steps)
    steep = 0.15 * (np.logaddexp(0, (x - np.log(700)) / 0.15) - np.logaddexp(0, (x - np.log(2200)) / 0.15))
    made = log("constant", every=20, horizon=6000.0)
    run = prepare(replace(made, losses={"train": Series(steps, 7.4 * np.exp(-0.13 * (x - x[0]) - 0.25 * steep))}),
                  until="30%", warmup=0)  # fmt: skip
    told, end = forecast(run), float(run.loss[-1])
    assert told.final.value < 0.9 * end < end < told.final.high
    assert not told.confident
    assert isinstance(told.fit, Fit)
    without = replace(told, fit=replace(told.fit, steeper=0.0))
    for step in (run.until + 20, run.horizon):
        assert told.at(step).low == pytest.approx(without.at(step).low)
    assert told.at(run.until + 20).high == pytest.approx(without.at(run.until + 20).high, rel=5e-3)
    sd = 0.75 * told.fit.steeper * np.log(run.horizon / run.until)
    high = without.at(run.horizon).high
    assert high * np.exp(sd) < told.at(run.horizon).high < high * np.exp(2 * sd)
