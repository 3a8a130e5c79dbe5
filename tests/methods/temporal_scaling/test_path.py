"""How far the rates of a run let the weights go, and what a fall then takes off."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmtool.methods.temporal_scaling import saved
from llmtool.methods.temporal_scaling.fit import Fit, expected
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN, FURTHEST, NEAREST, USUAL_PATH
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import NOT_ADAM, UPDATES, Plan, Schedule, from_log
from tests.methods.temporal_scaling.synthetic import log

LOGGED = 3e-4
"""The peak of the logs that are made up here."""


def at_peak(made: Log, peak: float) -> Log:
    """The same log with another peak rate, and the same losses."""
    assert made.rate is not None
    return replace(made, rate=replace(made.rate, values=made.rate.values * peak / LOGGED))


def gain(schedule: Schedule) -> float:
    return next(each.centre for each in expected(COOLDOWN, schedule) if each.name == "gain")


def told(peak: float, gain: float = 0.36) -> tuple[Forecast, float]:
    """A forecast of a long run by its plateau, and the loss that it ends with."""
    made = at_peak(log("wsd", every=200, horizon=40_000.0, gain=gain), peak)
    return forecast(prepare(made, until="30%")), float(made.losses["train"].values[-1])


def test_the_path_is_the_sum_of_the_rates() -> None:
    made = log("cosine")
    schedule = from_log(made, 20_000.0)
    assert schedule is not None
    assert made.rate is not None
    assert schedule.path == pytest.approx(100 * made.rate.values.sum(), rel=1e-2)
    epochs = replace(made, unit="epoch")  # of which nobody knows how many updates they have
    counted = from_log(epochs, 20_000.0)
    assert counted is not None
    assert schedule.path is not None
    assert counted.path == pytest.approx(schedule.path * UPDATES / 20_000)


@pytest.mark.parametrize("peak", [NOT_ADAM, 0.05, 1.0])
def test_rates_that_are_none_of_adams_tell_nothing(peak: float) -> None:
    schedule = from_log(at_peak(log("cosine"), peak), 20_000.0)
    assert schedule is not None
    assert schedule.path is None
    assert gain(schedule) == gain(replace(schedule, peak=None))


def test_the_further_the_weights_go_the_more_a_fall_takes_off() -> None:
    """By a power of 0.3, within what was looked at."""
    unknown = Plan("wsd", 0.0).schedule(100_000.0)
    assert unknown.path is None

    def beside(path: float) -> float:
        return gain(replace(unknown, peak=path / unknown.total)) / gain(unknown)

    assert beside(USUAL_PATH) == pytest.approx(1.0)
    assert beside(2 * USUAL_PATH) == pytest.approx(2**0.3)
    assert beside(100 * USUAL_PATH / 2) == pytest.approx(FURTHEST**0.3)
    assert beside(USUAL_PATH / 100) == pytest.approx(NEAREST**0.3)


def test_a_run_at_a_high_rate_is_told_by_it() -> None:
    """The plateau of a run whose fall takes off twice the usual: with the rate as a share of its peak it is told 2% too
    high, with the rate itself 1%; one whose fall takes off half of it, at a low rate, the other way round."""
    (high, end), (blind, _) = told(2e-3, gain=0.7), told(1.0, gain=0.7)
    assert high.final.value / end - 1 < 0.6 * (blind.final.value / end - 1)
    (low, end), (blind, _) = told(1e-4, gain=0.2), told(1.0, gain=0.2)
    assert 1 - low.final.value / end < 0.6 * (1 - blind.final.value / end)


def test_half_of_a_fall_tells_less_of_the_rest_where_the_weights_went_far() -> None:
    """Real cosines ended up to 3% lower than told from half, and were told with confidence."""
    usual, far = (forecast(prepare(at_peak(log("cosine"), peak), until="50%")) for peak in (LOGGED, 5e-3))
    below = [1 - made.final.low / made.final.value for made in (usual, far)]
    assert below[1] > below[0] + 0.01
    assert usual.confident
    assert not far.confident


def test_a_plan_and_a_saved_fit_keep_the_peak(tmp_path: Path) -> None:
    assert Plan("cosine", peak=1e-3).schedule(20_000.0).peak == 1e-3
    made, _ = told(2e-3)
    (tmp_path / "fit.json").write_text(json.dumps(saved.to_json(made, [])))
    read, _ = saved.load(tmp_path / "fit.json")
    assert isinstance(read, Fit)
    assert isinstance(made.fit, Fit)
    assert read.schedule is not None
    assert read.schedule.peak == 2e-3
    end = np.array([40_000.0])
    np.testing.assert_allclose(read.lower(end), made.fit.lower(end))
    moved = saved.elsewhere(read, Plan("cosine").schedule(40_000.0))
    assert moved.schedule is not None
    assert moved.schedule.peak == 2e-3


def test_a_schedule_without_its_peak_asks_for_it() -> None:
    blind = replace(log("wsd"), rate=None)
    for peak in (None, 1e-3):
        made = forecast(prepare(blind, until="30%", horizon=20_000.0, warmup=500.0, plan=Plan("wsd", peak=peak)))
        asked = [doubt for doubt in made.doubts if "--like" in doubt]
        assert len(asked) == 1
        assert ("--peak" in asked[0]) == (peak is None)
