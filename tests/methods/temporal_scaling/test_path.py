"""How far the rates of a run let the weights go, and what a fall then takes off."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import saved
from llmtool.methods.temporal_scaling.fit import Fit, expected
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Schedule, from_log
from tests.methods.temporal_scaling.synthetic import log


def gain(schedule: Schedule) -> float:
    return next(each.centre for each in expected(COOLDOWN, schedule) if each.name == "gain")


def told(peak: float, gain: float = 0.36) -> tuple[Forecast, float]:
    """A forecast of a long run by its plateau, and the loss that it ends with."""
    made = log("wsd", every=200, horizon=40_000.0, gain=gain, peak=peak)
    return forecast(prepare(made, until="30%")), float(made.losses["train"].values[-1])


def test_the_path_is_the_sum_of_the_rates() -> None:
    made = log("cosine")
    schedule = from_log(made, 20_000.0)
    assert schedule is not None
    assert made.rate is not None
    assert schedule.path == pytest.approx(100 * made.rate.values.sum(), rel=1e-2)
    epochs = from_log(replace(made, unit="epoch"), 19_000.0)  # of which nobody knows how many updates they have
    assert epochs is not None
    assert epochs.peak == schedule.peak
    assert epochs.path is None


@pytest.mark.parametrize("peak", [0.02, 0.05, 1.0])
def test_rates_that_are_none_of_adams_tell_nothing(peak: float) -> None:
    schedule = from_log(log("cosine", peak=peak), 20_000.0)
    assert schedule is not None
    assert schedule.path is None
    assert gain(schedule) == gain(replace(schedule, peak=None))


def test_up_to_there_they_are_adams() -> None:
    schedule = from_log(log("cosine", peak=0.019), 20_000.0)
    assert schedule is not None
    assert schedule.path == pytest.approx(0.019 * schedule.total)


def test_the_further_the_weights_go_the_more_a_fall_takes_off() -> None:
    """By a power of 0.4, within what was looked at; the fall over a fifth of the steps by one of 0.2, of 0.4 where
    nobody knows the sum."""
    unknown = Plan("wsd", 0.0, decay=0.2).schedule(100_000.0)
    assert unknown.path is None
    assert gain(unknown) == pytest.approx(0.39 * (unknown.fall / 0.28) ** 0.4)

    def along(path: float) -> float:
        return gain(replace(unknown, peak=path / unknown.total)) / (0.39 * float((unknown.fall / 0.28) ** 0.2))

    assert along(8.0) == pytest.approx(1.0)
    assert along(16.0) == pytest.approx(2**0.4)
    assert along(400.0) == along(32.0) == pytest.approx(4**0.4)
    assert along(0.08) == along(2.0) == pytest.approx(0.25**0.4)


def test_between_adams_rates_and_others_nothing_jumps() -> None:
    """Wholly Adam's at 0.01, not at all at 0.02; halfway, by the logarithm, between."""
    unknown = Plan("wsd", 0.0).schedule(100_000.0)
    at = {peak: gain(replace(unknown, peak=peak)) for peak in (0.01, 0.0100001, 0.02**0.5 * 0.1, 0.0199999, 0.02)}
    assert at[0.01] == pytest.approx(0.39 * 4**0.4 * (unknown.fall / 0.28) ** 0.2)
    assert at[0.0100001] == pytest.approx(at[0.01], rel=1e-4)
    assert at[0.02] == gain(unknown) == pytest.approx(at[0.0199999], rel=1e-4)
    assert at[0.02**0.5 * 0.1] == pytest.approx((at[0.01] * at[0.02]) ** 0.5)


def test_a_run_at_a_high_rate_is_told_by_it() -> None:
    """The plateau of a run whose fall takes off twice the usual: with the rate as a share of its peak it is told 2% too
    high, with the rate itself 1%; one whose fall takes off half of it, at a low rate, the other way round."""
    (high, end), (blind, _) = told(2e-3, gain=0.7), told(1.0, gain=0.7)
    assert high.final.value / end - 1 < 0.6 * (blind.final.value / end - 1)
    (low, end), (blind, _) = told(1e-4, gain=0.2), told(1.0, gain=0.2)
    assert 1 - low.final.value / end < 0.6 * (1 - blind.final.value / end)


def test_half_of_a_fall_tells_less_of_the_rest_where_the_weights_went_far() -> None:
    """Real cosines ended up to 3% lower than told from half, and were told with confidence."""
    usual, far = (forecast(prepare(log("cosine", peak=peak), until="50%")) for peak in (3e-4, 5e-3))
    below = [1 - made.final.low / made.final.value for made in (usual, far)]
    assert below[1] > below[0] + 0.01
    assert usual.confident
    assert not far.confident


def test_how_far_the_rest_of_a_fall_may_lie_beyond() -> None:
    """0.025 for each factor e beyond a sum of 8, and for the share of the peak that is still to fall; up to 75."""
    made = forecast(prepare(log("cosine"), until="50%")).fit
    assert isinstance(made, Fit)
    assert made.schedule is not None
    end, left = np.array([20_000.0]), 0.55 - 0.1

    def lower(path: float) -> float:
        assert made.schedule is not None
        schedule = replace(made.schedule, peak=path / made.schedule.total)
        sharp = replace(made, schedule=schedule, spread=1e-6 * made.spread, other=None)  # of which nothing else is open
        return float(sharp.lower(end)[0])

    assert lower(8.0) < 1e-4
    assert lower(8.0 * np.e) == pytest.approx(0.025 * left, rel=0.05)
    assert lower(75.0) == lower(100.0) == pytest.approx(0.025 * np.log(75 / 8) * left, rel=0.05)


def test_a_peak_at_odds_with_the_log_is_refused() -> None:
    """At ten thousand times the log's rates a wsd was told 4% too high, with confidence."""
    for peak in (1e-4, 3.0):
        with pytest.raises(UserError, match=r"--peak .* largest rate is 0\.0003"):
            from_log(log("wsd"), 20_000.0, plan=Plan("wsd", peak=peak))
    found = from_log(log("wsd"), 20_000.0, plan=Plan("wsd", peak=4e-4))
    assert found is not None
    assert found.peak == 4e-4


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
    with pytest.raises(UserError, match=r"--peak 0\.0001 and a fit of a run whose peak was 0\.002"):
        saved.elsewhere(read, Plan("cosine", peak=1e-4).schedule(40_000.0))
    moved = saved.elsewhere(read, Plan("cosine").schedule(40_000.0))  # at the rates that were fitted
    assert moved.schedule is not None
    assert moved.schedule.peak == 2e-3


def test_a_schedule_without_its_peak_asks_for_it() -> None:
    blind = replace(log("wsd"), rate=None)
    for peak in (None, 1e-3):
        made = forecast(prepare(blind, until="30%", horizon=20_000.0, warmup=500.0, plan=Plan("wsd", peak=peak)))
        asked = [doubt for doubt in made.doubts if "--like" in doubt]
        assert len(asked) == 1
        assert ("--peak" in asked[0]) == (peak is None)


def test_a_long_fall_whose_sum_nobody_knows_may_take_off_as_much_as_any_seen() -> None:
    """Real lines of Muon's kin ended 3.3% lower than told from half. A rate that rests first is as it was."""
    known, unknown = (forecast(prepare(log("cosine", peak=peak), until="50%")) for peak in (3e-4, 1.0))
    below = [1 - made.final.low / made.final.value for made in (known, unknown)]
    assert below[1] > below[0] + 0.01
    assert known.confident
    assert not unknown.confident
    rested = [forecast(prepare(log("wsd", peak=peak), until="90%")) for peak in (8.0 / 18_000, 1.0)]
    widths = [made.final.high - made.final.low for made in rested]
    assert widths[1] < 1.2 * widths[0]


@pytest.mark.parametrize(
    ("plan", "rests"),
    [(Plan("cosine"), 0.0), (Plan("linear"), 0.0), (Plan("wsd"), 1.0), (Plan("wsd", 0.0, 0.5), 1.0),
     (Plan("wsd", 0.0, 0.72), 0.0), (Plan("constant"), 1.0)],
)  # fmt: skip
def test_where_a_rate_rests(plan: Plan, rests: float) -> None:
    made = plan.schedule(20_000.0, 500.0)
    assert made.rests == rests
    assert replace(made, eta=0.9 * made.eta).rests == rests  # a peak that the log does not reach


def test_how_far_a_rate_rests_does_not_jump() -> None:
    shares = [Plan("wsd", 0.0, decay).schedule(20_000.0).rests for decay in np.arange(0.55, 0.78, 0.01)]
    assert max(-np.diff(shares)) < 0.12
    assert shares[0] == 1.0
    assert shares[-1] == 0.0
    assert 0.4 < Plan("wsd", 0.0, 0.66).schedule(20_000.0).rests < 0.6


def test_between_adams_rates_and_others_the_interval_does_not_jump() -> None:
    """From nothing for a sum of 5, at a peak of 0.01, to what one of 75 allows at 0.02: half of it halfway."""
    made = forecast(prepare(log("cosine"), until="50%")).fit
    assert isinstance(made, Fit)
    assert made.schedule is not None
    short = replace(made.schedule, steps=made.schedule.steps / 20, warmup=25.0)
    sharp = replace(made, until=500.0, spread=1e-6 * made.spread, other=None)  # of which nothing else is open
    between = {peak: float(replace(sharp, schedule=replace(short, peak=peak)).lower(np.array([1000.0]))[0])
               for peak in (0.01, 0.02**0.5 * 0.1, 0.0199, 0.0201, None)}  # fmt: skip
    most = 0.025 * np.log(75 / 8) * (0.55 - 0.1)
    assert list(between.values()) == pytest.approx([0.0, most / 2, most, most, most], rel=0.05, abs=1e-4)
