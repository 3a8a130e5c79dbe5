"""The difference of two runs and its own law: noise that both share falls out, and drifts are carried on."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import comparison
from llmtool.methods.temporal_scaling.comparison import compared, require_comparable
from llmtool.methods.temporal_scaling.fit import FALL
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.paired import WIDEN, carried, common, pair
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan
from tests.methods.temporal_scaling.synthetic import HORIZON, log


def beside(made: Log, factor: np.ndarray | float, name: str = "other") -> Log:
    """The same run with its losses times a factor: the noise is the same in both."""
    train = made.losses["train"]
    return replace(made, name=name, losses={"train": Series(train.steps, train.values * factor)})


def looked_at(made: Log, until: str = "40%") -> Forecast:
    return forecast(prepare(made, until=until), "cooldown")


def test_noise_that_both_share_falls_out() -> None:
    made = log(noise=5e-3)
    gap, run = pair(looked_at(beside(made, 1.004)), looked_at(made)), looked_at(made).run
    assert gap is not None
    assert gap.law == "constant"
    assert gap.value == pytest.approx(np.log(1.004), abs=1e-6)
    now, then = run.schedule.rate(np.array([0.4 * HORIZON, HORIZON])) if run.schedule else (0.0, 0.0)
    assert gap.sd == pytest.approx(np.hypot(WIDEN * 5e-4, FALL * (now - then)))


def test_a_drift_over_the_log_of_the_step_is_carried_on() -> None:
    run = log(noise=1e-3)
    steps = run.losses["train"].steps
    gap = pair(looked_at(beside(run, np.exp(0.02 * np.log(steps / HORIZON) + 0.01))), looked_at(run))
    assert gap is not None
    assert gap.law == "log"
    assert gap.value == pytest.approx(0.01, abs=1e-4)


def test_carried_by_hand() -> None:
    steps = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert carried("constant", steps, np.array([9.0, 9, 9, 1, 2, 3]), 64.0) == pytest.approx(2.0)
    assert carried("log", steps, np.log2(steps), 64.0) == pytest.approx(6.0)


def test_runs_under_other_schedules_or_at_other_steps_are_not_paired() -> None:
    cosine = looked_at(log())
    assert pair(cosine, looked_at(log("constant"))) is None
    assert pair(cosine, looked_at(log(every=130))) is None  # 1,300, 2,600, ...: too few in common
    assert common(cosine, looked_at(log(every=200))) is not None


def test_a_small_difference_under_much_shared_noise_is_told() -> None:
    """Separate forecasts cannot tell 0.4% apart here; the paired law can."""
    run = log(noise=5e-3)
    made = [looked_at(run), looked_at(beside(run, 1.004))]
    apart = comparison.odds(comparison.ends(made))[0, 1]
    paired = compared(made)
    assert comparison.odds(paired.draws)[0, 1] > 0.9 > 0.8 > apart
    assert paired.lowest == 0
    width = paired.apart(1).high - paired.apart(1).low
    assert width < 0.5 * np.ptp(np.quantile(np.diff(comparison.ends(made), axis=0), [0.05, 0.95]))
    assert paired.apart(1).value == pytest.approx(0.004 * made[0].final.value, rel=0.2)


def test_a_gap_at_the_peak_is_not_sure_to_outlive_the_fall() -> None:
    """Of two optimizers the noisier one is behind by 1.5% until the rate falls, and ends ahead."""
    noisy, calm = log("wsd", gain=0.52, constant=2.74), log("wsd", constant=2.7, name="calm")
    assert noisy.losses["train"].values[100] > 1.01 * calm.losses["train"].values[100]
    truth = float(np.log(noisy.losses["train"].values[-1] / calm.losses["train"].values[-1]))
    assert truth < 0

    def bare(made: Log) -> Forecast:
        return forecast(prepare(replace(made, rate=None), until="50%", horizon=HORIZON, warmup=500.0,
                                plan=Plan("wsd")), "cooldown")  # fmt: skip

    def faster(made: Log) -> Log:
        assert made.rate is not None
        return replace(made, rate=Series(made.rate.steps, 2 * made.rate.values))

    known = pair(looked_at(noisy, "50%"), looked_at(calm, "50%"))
    assert known is not None
    assert known.alike
    for runs in ([bare(noisy), bare(calm)], [looked_at(faster(noisy), "50%"), looked_at(calm, "50%")]):
        gap = pair(*runs)
        assert gap is not None
        assert not gap.alike
        assert gap.value == pytest.approx(known.value)
        assert abs(gap.value - truth) < 1.645 * gap.sd
        assert abs(gap.value - truth) > 4 * known.sd
        found = compared(runs)
        assert 0.02 < comparison.odds(found.draws)[0, 1] < 0.5
        assert "their peak rates differ or are not in the logs" in comparison.lines(found)[-2]


def test_a_sweep_as_a_table() -> None:
    run = log(noise=1e-3)
    made = [looked_at(beside(run, factor, name)) for name, factor in (("c", 1.02), ("a", 1.0), ("b", 1.0005))]
    lines = comparison.lines(compared(made))
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b", "c"]
    assert "could be stopped: c" in lines[-2]
    facts = comparison.to_json(compared(made))
    assert facts["lowest"] == "a"
    assert facts["runs"][1]["paired"] is None
    assert facts["runs"][0]["paired"]["steps"] > 30
    assert facts["runs"][0]["paired"]["one_peak_rate"] is True
    assert facts["runs"][0]["above_lowest"]["low"] > 0
    assert sum(each["probability_lowest"] for each in facts["runs"]) == pytest.approx(1)


def test_other_tokenizers_are_refused() -> None:
    made = [looked_at(replace(log(), tokenizer=name)) for name in ("one", "two")]
    with pytest.raises(UserError, match="different tokenizers"):
        require_comparable(made, Console())
    require_comparable(made, Console(verbosity=-1), force=True)


def test_the_noise_of_runs_that_may_go_on_is_their_own() -> None:
    """The draws of both came from the same numbers, so that any difference at all was certain."""
    made = [looked_at(log("linear", noise=5e-3, seed=seed, name=f"{seed}"), "100%") for seed in (1, 2)]
    live = [forecast(prepare(each.run.log), "cooldown") for each in made]
    for pair_of in (live, [live[0], replace(live[1], run=replace(live[1].run, steps=live[1].run.steps - 1))]):
        assert all(each.run.goes_on is not None for each in pair_of)
        draws = comparison.ends(pair_of)
        apart = np.log(draws[0] / draws[1])
        assert apart.std() > 1.2 * pair_of[0].run.end_noise
        for place, each in enumerate(pair_of):  # the two ways in which each may end stay as they were
            last, on = (np.median(way.draws) for way in each.endings.values())
            halves = comparison._first_half(draws.shape[1])
            assert np.median(draws[place][halves]) == pytest.approx(last, rel=1e-3)
            assert np.median(draws[place][~halves]) == pytest.approx(on, rel=1e-3)
        assert 0.05 < comparison.odds(compared(pair_of).draws)[0, 1] < 0.95


def test_one_and_the_same_run_shares_its_chances() -> None:
    """The first of them got all, and the others could be stopped."""
    run = log(noise=1e-3)
    made = [looked_at(beside(run, 1.0, name)) for name in "abc"]
    found = compared([*made, looked_at(beside(run, 1.03, "d"))])
    odds = comparison.share_lowest(found.draws)
    np.testing.assert_allclose(odds[:3], odds[0])
    assert odds[3] < 0.01
    assert comparison.hopeless(found) == [3]
    many = compared([looked_at(beside(run, 1.0, str(at))) for at in range(2)] * 15)
    np.testing.assert_allclose(comparison.share_lowest(many.draws), 1 / 30)
    assert comparison.hopeless(many) == []
    assert not any("could be stopped" in line for line in comparison.lines(many))
    np.testing.assert_allclose(comparison.share_lowest(np.array([[1.0, 2.0], [1.0, 3.0]])), [0.75, 0.25])
