"""Where a run ends, if neither the log nor its reader says so: a live log is not told as a finished one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmtool.commands.scaling import fit as command
from llmtool.commands.scaling.settings import FitSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import report, saved
from llmtool.methods.temporal_scaling.alarms import of_run
from llmtool.methods.temporal_scaling.comparison import ends, require_comparable
from llmtool.methods.temporal_scaling.ending import find_end, power_of_step
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.levels import rise
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Shape, from_log
from tests.methods.temporal_scaling.synthetic import HORIZON, log, losses, rows, schedule
from tests.methods.temporal_scaling.test_follow import Stopped, growing


def cut(shape: Shape, share: float, every: int = 100) -> Log:
    """The first part of a run, as the log of a live one."""
    whole, last = log(shape, every=every), share * HORIZON
    rate = whole.rate
    assert rate is not None
    keep = rate.steps <= last
    held = {name: Series(each.steps[keep], each.values[keep]) for name, each in whole.losses.items()}
    return replace(whole, losses=held, rate=Series(rate.steps[keep], rate.values[keep]))


@pytest.mark.parametrize("share", [0.55, 0.7, 0.85])
def test_a_cosine_cut_below_half_of_its_peak_is_not_told_as_finished(share: float) -> None:
    made = forecast(prepare(cut("cosine", share)))
    last, on = made.endings.values()
    truth = losses(np.array([HORIZON]), schedule("cosine"), noise=0.0)[0]
    assert not made.confident
    assert "still fell" in made.doubts[0]
    assert made.final.low <= on.low < last.value <= made.final.high
    assert made.final.low < truth < made.final.high
    assert on.value == pytest.approx(truth, rel=0.015)
    assert not saved.to_json(made, [])["finished"]
    text = list(report.lines(made))
    near = share > 0.8  # a rate so low is likelier that of an end
    assert made.final.value == (last.value if near else on.value)
    told = f"{last.value:.4f}  [{last.low:.4f}, {last.high:.4f}] if step {share * HORIZON:,.0f} was the last"
    assert text[1 if near else 2].strip().removeprefix("finished?").strip() == told
    assert text[1].split()[0] == ("finished?" if near else "final")


def test_a_linear_fall_goes_on_to_where_it_is_zero() -> None:
    end = find_end(cut("linear", 0.7), 0.7 * HORIZON, None, whole=False)
    # From 500 to 20,000 steps by nine tenths.
    assert end.goes_on == pytest.approx(500 + 19_500 / 0.9, rel=1e-3)
    assert end.step == end.goes_on
    assert find_end(cut("linear", 0.95), 0.95 * HORIZON, None, whole=False).step == 0.95 * HORIZON


def test_a_decay_that_has_begun_is_carried_on_at_the_pace_it_has() -> None:
    """It began in the last twentieth: the plateau before it is no part of its pace."""
    run = prepare(cut("wsd", 0.83))
    assert run.horizon == run.goes_on == pytest.approx(0.8 * HORIZON + 0.2 * HORIZON / 0.9, rel=1e-3)
    assert run.schedule is not None
    assert run.schedule.rate(np.array([run.horizon]))[0] == 0.0
    made = forecast(run)
    assert list(made.endings) == ["if step 16,600 was the last",
                                  f"if the rate falls on to zero, at step {run.horizon:,.0f}"]  # fmt: skip
    assert made.final.low <= made.endings["if step 16,600 was the last"].value <= made.final.high
    assert not made.confident
    assert not any("may yet fall" in doubt for doubt in made.doubts)


@pytest.mark.parametrize("share", [0.96, 1.0])
def test_the_flat_end_of_a_cosine_is_an_end(share: float) -> None:
    made = forecast(prepare(cut("cosine", share)))
    assert made.confident
    assert not made.endings
    assert "is down to 10% of its peak (--horizon, if the run goes on)" in list(report.lines(made))[1]


def test_a_rate_that_reached_zero_is_an_end() -> None:
    planned = Plan("linear", 0.0).schedule(HORIZON, 500.0)
    steps = np.arange(100.0, HORIZON + 1, 100.0)
    made = Log("run", {"train": Series(steps, losses(steps, planned))}, rate=Series(steps, planned.rate(steps)))
    assert find_end(made, HORIZON, None, whole=False).goes_on is None
    assert forecast(prepare(made)).confident


@pytest.mark.parametrize("how", [{"horizon": 0.7 * HORIZON}, {"until": "100%"}])
def test_who_says_that_the_run_has_ended_is_believed(how: dict[str, object]) -> None:
    made = forecast(prepare(cut("linear", 0.7), **how))  # type: ignore[arg-type]
    assert made.run.finished
    assert made.confident
    assert "the log reaches the horizon" in list(report.lines(made))[1]


def test_an_early_fall_without_a_horizon_is_refused() -> None:
    with pytest.raises(UserError, match="give --schedule for the steps up to --horizon"):
        prepare(cut("cosine", 0.3))


def test_a_rate_that_was_lowered_and_stays_may_go_on() -> None:
    """A run with a stepped rate, cut at 70%, was told as finished, confidently."""
    steps = np.arange(100.0, HORIZON + 1, 100.0)
    planned = Plan("constant").schedule(HORIZON, 500.0)
    eta = np.where(steps < 8000, 1.0, np.where(steps < 11_000, 0.2, 0.05))
    stepped = Log("run", {"train": Series(steps, losses(steps, planned))}, rate=Series(steps, 3e-4 * eta))
    made = forecast(prepare(stepped))
    assert list(made.endings) == ["if step 20,000 was the last", "if the rate stays, at step 40,000"]
    assert made.doubts[0].startswith("the learning rate stays at 5% of its peak at step 20,000, and nothing says")
    assert forecast(prepare(stepped, horizon=HORIZON)).confident
    zero = replace(stepped, rate=Series(steps, np.where(steps < 15_000, 1.0, 0.0)))
    assert find_end(zero, HORIZON, None, whole=False).goes_on is None


def test_a_rate_that_rises_again_has_not_ended() -> None:
    whole = log("cosine")
    assert whole.rate is not None
    again = np.where(whole.rate.steps > 0.9 * HORIZON, 3e-4 * (whole.rate.steps / HORIZON - 0.9), whole.rate.values)
    assert find_end(replace(whole, rate=Series(whole.rate.steps, again)), HORIZON, None, whole=False).step is None
    assert find_end(whole, HORIZON, None, whole=False).step == HORIZON


def test_rates_between_two_evaluations_are_no_plan() -> None:
    """A live run on its plateau that evaluates seldom was forecast to its last logged rate, confidently."""
    whole = cut("wsd", 0.5, every=20)
    assert whole.rate is not None
    train = whole.losses["train"]
    seldom = Series(train.steps[49::50], train.values[49::50])
    rates = Series(np.append(whole.rate.steps, 10_900.0), np.append(whole.rate.values, whole.rate.values[-1]))
    live = replace(whole, losses={"train": train, "val": seldom}, rate=rates)
    assert find_end(live, 10_000.0, None, whole=False).step == 10_900  # the train losses show that these lie ahead
    alone = replace(live, losses={"val": seldom})
    run = prepare(alone)
    assert run.open_end
    assert not forecast(run).confident


def test_rates_that_are_logged_to_the_end_are_a_plan() -> None:
    live = cut("cosine", 0.4)
    whole = log("cosine")
    run = prepare(replace(live, rate=whole.rate))
    assert run.horizon == HORIZON
    assert not run.finished


def test_an_inverse_square_root_goes_on_as_it_did() -> None:
    live = cut("inverse-sqrt", 0.5)
    run = prepare(live)
    assert run.open_end
    assert run.schedule is not None
    ahead = np.array([2.0, 5.0, 10.0]) * 0.5 * HORIZON
    planned = Plan("inverse-sqrt").schedule(10 * HORIZON, 500.0)
    assert run.schedule.rate(ahead) == pytest.approx(planned.rate(ahead), rel=0.01)
    made = forecast(run)
    assert list(made.endings) == ["if the rate goes on as it did", "if it falls over the last fifth"]
    assert not made.confident
    told = from_log(live, HORIZON)
    assert told is not None
    assert told.assumed == 0.5 * HORIZON


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd", "wsd-sqrt", "constant"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_no_other_rate_passes_for_a_power_of_the_step(shape: Shape, share: float) -> None:
    rate = cut(shape, share).rate
    assert rate is not None
    assert power_of_step(rate.steps, rate.values) is None


def test_a_watched_run_is_not_left_when_its_rate_begins_to_fall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.jsonl"
    request = command.Request([str(path)], FitSettings(follow=True, every=1.0, law="cooldown"))
    with pytest.raises(Stopped):  # no end is known, so that there is always more to wait for
        command.run(request, Console(), sleep=growing(path, rows(log("wsd", every=400)), 10))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9  # 2,000 steps were not enough
    assert lines[6].startswith("step 16,000: loss ")
    assert all("if the rate falls on to zero" in line for line in lines[7:])


def test_a_watched_run_is_not_left_when_a_forecast_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.jsonl"
    request = command.Request([str(path)], FitSettings(follow=True, every=1.0, law="cooldown"))
    assert command.run(request, Console(), sleep=growing(path, rows(log("cosine", every=100)), 20)) == 0
    told = capsys.readouterr()
    assert told.err.count("give --schedule for the steps up to --horizon") == 1
    assert sum("if the rate falls on to zero" in line for line in told.out.splitlines()) == 9
    assert "finished, its last loss is" in told.out.splitlines()[-1]


def test_a_rate_that_stepped_down_and_stayed_may_stay() -> None:
    steps = np.arange(100.0, 10_001.0, 100.0)
    eta = np.where(steps < 6000, 1.0, 0.6)
    planned = Plan("constant").schedule(10_000.0, 500.0)
    live = Log("run", {"train": Series(steps, losses(steps, planned))}, rate=Series(steps, 3e-4 * eta))
    made = forecast(prepare(live, horizon=HORIZON))
    assert list(made.endings) == ["if the rate stays", "if it falls over the last fifth"]
    assert not made.confident
    slope = replace(live, rate=Series(steps, 3e-4 * (1 - 0.2 * (steps / 10_000.0) ** 2)))
    with pytest.raises(UserError, match="is not constant"):
        prepare(slope, horizon=HORIZON)


def test_a_loss_that_rises_is_told_and_costs_confidence() -> None:
    """An evaluation loss of a model that is tuned on few texts for several epochs."""
    steps = np.arange(100.0, 3001.0, 100.0)
    planned = Plan("cosine", 0.0).schedule(3000.0, 90.0)
    down = 1.05 + 0.3 * (steps / 10) ** -0.4
    rate = Series(steps, planned.rate(steps))
    overfit = Log("run", {"val": Series(steps, down + 1.2e-4 * np.maximum(steps - 1000, 0))}, rate=rate)
    half = prepare(overfit, until="60%")
    assert half.risen is not None
    assert half.risen.step == 1000
    risen = overfit.losses["val"].values[16] / overfit.losses["val"].values[9] - 1  # the lower of the last two
    assert (
        f"the loss has risen by {risen:.1%} since step 1,000 (overfitting?): no law here rises" in forecast(half).doubts
    )
    assert any(alarm.kind == "rising" for alarm in of_run(half))
    told = list(report.lines(forecast(prepare(overfit))))[1]
    assert "% above that of step 800 (overfitting?)" in told  # of blocks of one and of two rows, the lowest
    assert prepare(replace(overfit, losses={"val": Series(steps, down)}), until="60%").risen is None


def test_a_loss_that_rises_with_the_rate_or_as_far_as_its_noise_has_not_risen() -> None:
    steps = np.arange(10.0, 3001.0, 10.0)
    for seed in range(20):
        noisy = 2.5 + 0.1 * np.random.default_rng(seed).standard_normal(len(steps))
        assert rise(steps, noisy) is None
    again = np.where(steps < 1500, 1 - steps / 1600, 1.0)
    warmed = Log("run", {"train": Series(steps, 2.5 + 0.2 * again)}, rate=Series(steps, again))
    assert prepare(warmed, horizon=3000.0).risen is None
    assert rise(steps, warmed.losses["train"].values) is not None


def test_a_run_at_its_horizon_has_no_endings() -> None:
    """Rates to 19,500 of a plateau, losses to the horizon at 20,000: its own last step was told as a forecast."""
    whole = log("constant")
    assert whole.rate is not None
    made = forecast(
        prepare(replace(whole, rate=Series(whole.rate.steps[:-5], whole.rate.values[:-5])), horizon=HORIZON)
    )
    assert made.run.finished
    assert not made.endings
    assert list(report.lines(made))[1].strip().startswith("finished ")


@pytest.mark.parametrize("rows_short", [1, 2, 4])
def test_losses_that_are_logged_beyond_the_rates_to_where_these_end(rows_short: int) -> None:
    """Hugging Face's closing evaluation stands a little after the last rate, which would be zero there."""
    planned = Plan("linear", 0.0).schedule(HORIZON, 500.0)
    steps = np.arange(400.0, HORIZON + 1, 400.0)
    rate = planned.rate(steps)[:-rows_short]
    made = Log("run", {"train": Series(steps, losses(steps, planned))}, rate=Series(steps[:-rows_short], rate))
    end = find_end(made, HORIZON, None, whole=False)
    assert (end.step, end.goes_on) == (HORIZON, None)


def test_with_a_plan_nothing_is_supposed_of_the_fall() -> None:
    run = prepare(cut("linear", 0.85), plan=Plan("linear"), warmup=500.0)
    assert run.open_end
    assert run.goes_on is None


def test_a_live_run_is_compared_by_both_of_its_endings() -> None:
    live, done = forecast(prepare(cut("linear", 0.85))), forecast(prepare(log("linear"), horizon=HORIZON))
    with pytest.raises(UserError, match="where the runs end is not known, and they were logged to different steps"):
        require_comparable([live, done], Console())
    draws = ends([live, done])
    assert 0.2 < (draws[0] < draws[1]).mean() < 0.8  # its end is lower, its last loss higher
    facts = saved.to_json(live, [])
    assert facts["goes_on"] == live.run.goes_on == pytest.approx(500 + 19_500 / 0.9, rel=1e-3)
    assert saved.to_json(forecast(prepare(cut("linear", 0.7))), [])["horizon"] is None


def test_a_loss_that_is_no_number_any_more_costs_confidence() -> None:
    steps = np.arange(100.0, 3001.0, 100.0)
    broken = Log("run", {"train": Series(steps, 3 + 100 / steps)}, horizon=6000, broken_from=3100.0)
    assert "the loss is no number since step 3,100: the run has diverged" in forecast(prepare(broken)).doubts
