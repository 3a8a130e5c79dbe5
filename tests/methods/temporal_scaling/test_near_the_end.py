"""Where little is left of a run, little of what the laws get wrong can still happen to it."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.alarms import odds_above
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.comparison import ends
from llmtool.methods.temporal_scaling.doubts import NEAR_PEAK, slope_growth
from llmtool.methods.temporal_scaling.forecast import Forecast, _left, forecast
from llmtool.methods.temporal_scaling.intervals import SHORT_FALL, UNKNOWN_RATE
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling.synthetic import HORIZON, log


def width(made: Forecast) -> float:
    return (made.final.high - made.final.low) / made.final.value


def looked_from(*origins: float) -> Backtest:
    return Backtest(origins, (0.01,) * len(origins), (0.01,) * len(origins), (0.1,) * len(origins))


def test_what_is_left_is_measured_by_what_the_back_test_looked_ahead() -> None:
    run = prepare(log("constant"), until="80%")
    reach = np.sqrt((np.log(2) ** 2 + np.log(4) ** 2) / 2)
    assert looked_from(8_000.0, 4_000.0).reach(16_000.0) == pytest.approx(reach)
    assert _left(run, looked_from(8_000.0, 4_000.0)) == pytest.approx(np.sqrt(np.log(1 / 0.8) / reach))
    assert _left(run, looked_from(15_999.0)) == 1
    assert _left(run, looked_from()) == 1
    assert _left(prepare(log("constant"), until="100%"), looked_from(8_000.0)) == 0


def test_a_fall_of_the_rate_ahead_is_left_however_few_steps_it_takes() -> None:
    """All of WSD's, at 80%."""
    run = prepare(log("wsd"), until="80%")
    assert run.schedule is not None
    fall = run.schedule.rate(np.array([run.until]))[0] - run.schedule.rate(np.array([run.horizon]))[0]
    assert _left(run, looked_from(100.0)) == pytest.approx(fall)
    assert fall > 3 * np.sqrt(np.log(1 / 0.8) / looked_from(100.0).reach(run.until))


def test_a_rival_costs_the_less_the_less_is_left() -> None:
    """A loss that no law of the rate describes: power back-tests better, by what is scaled."""
    made = log("cosine", noise=0.0)
    train = made.losses["train"]
    odd = replace(made, losses={"train": Series(train.steps, 2.5 + 30 * (train.steps + 80) ** -0.5)})
    early, late = (forecast(prepare(odd, until=until)) for until in ("70%", "97%"))
    better = [any("back-tests better" in doubt for doubt in made.doubts) for made in (early, late)]
    assert better == [True, False]
    assert width(late) < 0.25 * width(early)
    assert late.final.low < odd.losses["train"].values[-1] < late.final.high


def test_doubts_count_by_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit set between what a late run shows and that share of it which is left."""
    made = log("cosine", noise=0.0)
    train = made.losses["train"]
    run = prepare(
        replace(made, losses={"train": Series(train.steps, 3.0 - 0.1 * (train.steps / HORIZON) ** 2)}), until="97%"
    )
    seen = forecast(run)
    assert run.schedule is not None
    near_peak = run.schedule.rate(run.seen()[0]) >= NEAR_PEAK
    growth = slope_growth(*(each[near_peak] for each in run.seen()))
    left = _left(run, seen.backtest)
    assert 0.1 < left < 0.5
    for name, limit, words in (
        ("LARGEST_ERROR", seen.backtest.error, "the back-test inside"),
        ("STEEPER", growth, "still grows"),
    ):
        base = 1.0 if name == "STEEPER" else 0.0
        for share, told in ((0.8 * left, True), (1.2 * left, False)):
            monkeypatch.setattr(f"llmtool.methods.temporal_scaling.doubts.{name}", base + share * (limit - base))
            assert any(words in doubt for doubt in forecast(run).doubts) == told


def test_a_rate_that_nobody_knows_cannot_fall_far_any_more() -> None:
    bare = replace(log("constant"), rate=None)
    half, near, over = (forecast(prepare(bare, until=until, warmup=500.0)) for until in ("60%", "90%", "98%"))
    unknown = [any("rate is not known" in doubt for doubt in made.doubts) for made in (half, near, over)]
    assert unknown == [True, True, False]
    below = [made.final.value - made.final.low for made in (half, near, over)]
    reach = 1.645 * UNKNOWN_RATE * half.final.value
    assert below[0] == pytest.approx(reach, rel=0.3)
    assert below[1] == pytest.approx(reach * 0.1 / SHORT_FALL, rel=0.3)
    assert below[2] < 0.2 * below[0]
    ends = forecast(prepare(bare, horizon=10 * HORIZON, warmup=500.0))
    _, low, _ = ends.band(np.array([1.01, 1.5, 10.0]) * HORIZON)
    assert low[0] > 0.99 * bare.losses["train"].values[-1]
    assert low[1] < 0.98 * ends.fit.predict(np.array([1.5 * HORIZON]))[0]


def test_the_first_steps_of_a_short_run_are_not_its_last() -> None:
    steps = np.arange(10.0, 1201.0, 10.0)
    loss = 3.0 + 60 * (steps + 40) ** -0.9
    short = Log("short", {"train": Series(steps, loss)}, rate=Series(steps, np.ones(len(steps))))
    early, late = (forecast(prepare(short, until=until, warmup=20.0)) for until in ("40%", "97%"))
    young = [any("below 1,500 no law holds" in doubt for doubt in made.doubts) for made in (early, late)]
    assert young == [True, False]
    assert width(late) < 0.1 * width(early)
    assert late.final.low < loss[-1] < late.final.high


def test_the_end_of_a_finished_run_is_what_it_logged() -> None:
    """No law is asked where the loss is known: a bar is missed by the loss, and runs are set apart by theirs."""
    noisy = [log("cosine", noise=2e-3, seed=seed, constant=2.7 + 0.02 * seed) for seed in (0, 1)]
    # A last stretch that no law foresees.
    odd = noisy[0].losses["train"]
    noisy[0] = replace(noisy[0], losses={"train": Series(odd.steps, odd.values * (1 + 0.03 * (odd.steps > 19_000)))})
    made = [forecast(prepare(each, until="100%")) for each in noisy]
    for each in made:
        last = each.run.loss[-4:]
        assert each.run.finished
        assert each.final.value == pytest.approx(last.mean())
        assert width(each) == pytest.approx(2 * 1.645 * 2e-3 / np.sqrt(len(last)), rel=0.4)
        assert odds_above(each, 1.02 * last.mean()) == 0
        assert odds_above(each, 0.98 * last.mean()) == 1
    assert made[0].final.value > made[1].final.value  # the other way about before the last stretch
    draws = ends(made)
    for each, row in zip(made, draws, strict=True):
        assert np.median(row) == pytest.approx(each.final.value, rel=1e-4)
        assert np.std(np.log(row)) == pytest.approx(each.run.end_noise, rel=0.1)
    assert (draws[0] > draws[1]).mean() > 0.99
