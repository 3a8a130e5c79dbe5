"""Fits, back-tests, intervals and refusals on runs made from the laws."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import report, saved
from llmtool.methods.temporal_scaling.choice import NAMES, TINY, choose
from llmtool.methods.temporal_scaling.fit import Fit, beside_high_rate, fit
from llmtool.methods.temporal_scaling.forecast import Forecast, bounds, forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN, POWER, at_high_rate
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.run import Run, prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Shape
from tests.methods.temporal_scaling.synthetic import HORIZON, log


def end(made: Forecast) -> float:
    return float(made.run.loss[-1])


@pytest.mark.parametrize(("shape", "off"), [("constant", 2e-3), ("cosine", 9e-3), ("linear", 9e-3), ("wsd", 6e-3)])
def test_the_end_is_told_from_a_third(shape: Shape, off: float) -> None:
    made = forecast(prepare(log(shape), until="35%"))
    # Before a decay only the prior knows its size, and expects a long one to take off more than these runs' do.
    assert made.final.value == pytest.approx(end(made), rel=off)
    assert made.final.low < end(made) < made.final.high
    # What the fall ahead takes off is another project's: only a rate that stays leaves nothing of it open.
    assert made.confident == (shape == "constant")
    assert shape == "constant" or ["--like" in doubt for doubt in made.doubts] == [True]
    power = fit(POWER, *made.run.seen(), HORIZON).predict(np.array([HORIZON]))[0]
    assert shape == "constant" or abs(made.final.value - end(made)) < abs(power - end(made)) / 2


def test_half_a_cosine_tells_more_than_a_third() -> None:
    early, late = (forecast(prepare(log("cosine"), until=until), "cooldown") for until in ("30%", "60%"))
    assert late.final.high - late.final.low < early.final.high - early.final.low
    assert late.final.value == pytest.approx(end(late), rel=0.003)


def test_nothing_but_the_schedule_is_looked_at_beyond_the_last_step() -> None:
    whole = log("wsd")
    train = whole.losses["train"]
    changed = np.where(train.steps > 0.4 * HORIZON, 9.0, train.values)
    other = replace(whole, losses={"train": Series(train.steps, changed)})
    first, second = (forecast(prepare(each, until="40%"), "cooldown") for each in (whole, other))
    assert (first.final.value, first.final.low, first.why) == (second.final.value, second.final.low, second.why)
    flat = replace(whole, rate=Series(train.steps, np.full(len(train), 3e-4)))
    assert forecast(prepare(flat, until="40%"), "cooldown").final.value > first.final.value + 0.03


def phase_change() -> Log:
    """A loss whose fall accelerates: nothing that a power law foresees."""
    steps = np.arange(20.0, 4001.0, 20.0)
    loss = 1.2 + 3.0 / (1 + (steps / 900) ** 2)
    return Log("young run", {"train": Series(steps, loss)}, rate=Series(steps, np.ones(len(steps))))


def test_a_run_before_its_power_law_is_refused() -> None:
    made = forecast(prepare(phase_change(), until="20%"))
    assert not made.confident
    assert any("still grows" in doubt for doubt in made.doubts)


def test_a_run_without_a_rate_is_told_with_a_doubt_and_room_below() -> None:
    bare = replace(log("constant"), rate=None)
    made = forecast(prepare(bare, until="50%", warmup=500.0))
    assert made.fit.name in ("power", "shifted")
    assert "the learning rate is not known" in made.doubts[-1]
    assert all(doubt.startswith("the interval is") for doubt in made.doubts[:-1])
    assert made.final.value - made.final.low > 2 * (made.final.high - made.final.value)
    planned = forecast(prepare(bare, until="50%", plan=Plan("constant"), warmup=500.0))
    assert planned.fit.name == "cooldown"
    assert planned.confident


def test_auto_takes_another_law_only_where_it_is_clearly_better() -> None:
    steps = np.arange(100.0, 20_001.0, 100.0)
    sharp = 2.0 + 1.0 / (1 + 40 * steps / HORIZON)
    bare = Log("bare", {"train": Series(steps, sharp)})
    assert choose(prepare(bare, until="60%")).why.startswith("the log has no learning rate; back-test error")
    usual = choose(prepare(log("cosine"), until="50%"))
    assert usual.law.name == "cooldown"
    assert set(usual.backtests) == {"cooldown", "mpl", "annealing", "power"}
    assert usual.backtests["cooldown"].skill > 0.8
    asked = choose(prepare(log("cosine"), until="50%"), "power")
    assert (asked.law.name, asked.why) == ("power", "as asked for")


def test_backtests_only_predict_what_they_do_not_fit() -> None:
    run = prepare(log("constant"), until="50%")
    test = choose(run, "power").backtests["power"]
    assert len(test.origins) == 5
    steps, _ = run.seen()
    assert max(test.origins) < steps[-round(0.05 * len(steps))]
    assert test.error == pytest.approx(np.sqrt(np.mean(np.square(test.errors))))
    assert test.mape == pytest.approx(100 * np.mean(np.abs(test.errors)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"horizon": 100.0}, "lies before the last step"),
        ({"until": "x%"}, "neither a step nor a share"),
        ({"until": "150%"}, "outside the run"),
        ({"until": "50%", "smooth": 1000}, "leaves no point"),
        ({"until": "50%", "warmup": 30_000.0}, "only 0 points"),
        ({"until": "4%"}, "only"),
    ],
)
def test_what_cannot_be_forecast_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        forecast(prepare(log("cosine"), **settings))  # type: ignore[arg-type]


def test_a_log_of_losses_alone_is_told_ahead_of_its_last_step() -> None:
    bare = replace(log("constant"), rate=None)
    run = prepare(bare)
    made = forecast(run)
    assert run.ahead == (2 * HORIZON, 5 * HORIZON, 10 * HORIZON)
    assert not made.confident
    assert any("end of the run is not known (give --horizon)" in doubt for doubt in made.doubts)
    further = [made.at(step) for step in run.ahead]
    assert bare.losses["train"].values[-1] > further[0].value > further[1].value > further[2].value
    assert further[2].high - further[2].low > further[0].high - further[0].low
    facts = saved.to_json(made, [])
    assert (facts["horizon"], facts["final_loss"]) == (None, None)
    assert [row["step"] for row in facts["ahead"]] == list(run.ahead)
    assert prepare(log("cosine")).horizon == HORIZON


def test_a_plateau_so_far_may_yet_fall() -> None:
    """A run of warm-up, plateau and decay, watched on its plateau: it ends 3% lower than the plateau goes on to."""
    whole = log("wsd")
    live = {"train": Series(*(part[:120] for part in (whole.losses["train"].steps, whole.losses["train"].values)))}
    assert whole.rate is not None
    seen = replace(whole, losses=live, rate=Series(whole.rate.steps[:120], whole.rate.values[:120]))
    made = forecast(prepare(seen, horizon=HORIZON))
    assert any("known to step 12,000 only" in doubt for doubt in made.doubts)
    stays, falls = made.endings.values()
    truth = whole.losses["train"].values[-1]
    assert falls.low < truth < falls.high < stays.high
    assert made.final.low == falls.low
    assert made.final.high == stays.high
    told = forecast(prepare(seen, horizon=HORIZON, plan=Plan("wsd")))
    assert told.final.value == pytest.approx(falls.value, rel=3e-3)
    assert told.final.low == pytest.approx(falls.low, rel=0.01)
    assert not told.endings


def test_what_speaks_against_a_law_widens_both_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log("wsd")
    assert whole.rate is not None
    train = whole.losses["train"]
    live, rate = (Series(each.steps[:120], each.values[:120]) for each in (train, whole.rate))
    seen = replace(whole, losses={"train": live}, rate=rate)
    widths = []
    for more in (0.0, 0.05):
        monkeypatch.setattr("llmtool.methods.temporal_scaling.forecast._jumps_ahead", lambda run, more=more: more)
        widths.append([each.high - each.low for each in forecast(prepare(seen, horizon=HORIZON)).endings.values()])
    assert all(wide > 1.5 * usual for usual, wide in zip(*widths, strict=True))


def test_a_finished_run_is_told_as_such() -> None:
    made = forecast(prepare(log("cosine")))
    assert made.run.finished
    assert made.confident
    assert any(line.strip().startswith("finished") for line in report.lines(made))


def test_a_run_at_a_high_rate_may_end_far_lower(tmp_path: Path) -> None:
    """Its loss soon comes to rest, and falls with the rate: nine public runs ended 2.5 to 4.8% lower than told from
    half, none inside its interval, two of them confidently."""
    high = forecast(prepare(log("linear", constant=3.6, r=0.035, alpha=0.85, gain=1.5), until="50%"))
    assert high.final.low < end(high) < high.final.value
    assert high.final.value / end(high) - 1 < 0.06
    assert not high.confident
    usual = forecast(prepare(log("linear"), until="50%"))
    assert isinstance(high.fit, Fit)
    assert isinstance(usual.fit, Fit)
    assert usual.fit.share < 1 < high.fit.share < 1.5
    assert high.fit.other is not None
    told = float(np.exp(high.fit.law.log_loss(high.fit.other, high.fit.view(np.array([HORIZON]))))[0])
    assert abs(told / end(high) - 1) < abs(high.final.value / end(high) - 1) / 2
    kept = tmp_path / "fit.json"
    kept.write_text(json.dumps(saved.to_json(high, [])))
    again, surprise = saved.load(kept)
    assert bounds(again, HORIZON, surprise).low == pytest.approx(high.final.low, rel=1e-9)


def test_the_end_at_a_high_rate_counts_as_it_fits() -> None:
    """Twice the difference of the log densities is 2 log odds; draws of which half stay have its root mean square."""
    made = forecast(prepare(log("linear"), until="50%"))
    other = fit(at_high_rate(COOLDOWN), *made.run.seen(), HORIZON, made.run.schedule, starts=2)
    assert isinstance(made.fit, Fit)
    plausible = 1 / (1 + np.exp((other.cost - made.fit.cost) / 2))
    assert made.fit.share == pytest.approx(np.sqrt(2 * plausible), rel=1e-3)
    alone = replace(made.fit, other=None).lower(np.array([HORIZON]))[0]
    gap = float(np.log(made.fit.predict(np.array([HORIZON])) / other.predict(np.array([HORIZON])))[0])
    assert gap > 0.01
    assert made.fit.lower(np.array([HORIZON]))[0] == pytest.approx(max(alone, made.fit.share * gap), rel=1e-3)


def test_the_end_at_a_high_rate_keeps_the_area_that_a_fit_is_relative_to() -> None:
    made = forecast(prepare(log("linear"), until="50%"))
    assert isinstance(made.fit, Fit)
    assert made.fit.schedule is not None
    steps, loss = made.run.seen()
    halved = beside_high_rate(replace(made.fit, reference=made.fit.schedule.total / 2), steps, loss)
    assert halved.other is not None
    seen = np.exp(halved.law.log_loss(halved.other, halved.view(steps[-1:])))
    assert seen[0] == pytest.approx(loss[-1], rel=3e-3)


def test_a_high_rate_is_no_matter_where_nothing_falls_or_finished_runs_tell() -> None:
    at = np.array([HORIZON])
    earlier = prepare(log("cosine", every=200, reference=HORIZON, name="earlier"), until="100%")
    for made, most in (
        (forecast(prepare(log("constant"), until="50%")), 1e-9),
        (forecast(prepare(log("linear"))), 1e-3),  # the last of the fall is still being felt
        (forecast(prepare(log("linear", reference=HORIZON), until="50%"), like=[earlier]), 0.0),
    ):
        assert isinstance(made.fit, Fit)
        assert made.fit.other is None
        assert made.fit.lower(at)[0] <= most
    falling = forecast(prepare(log("linear"), until="50%"))
    assert isinstance(falling.fit, Fit)
    assert falling.fit.other is not None
    assert falling.fit.lower(at)[0] > 5e-3


def test_above_its_prior_a_gain_is_open_already() -> None:
    """The posterior of a gain that the fall so far has put there is as wide as the upper side of the prior."""
    made = forecast(prepare(log("linear", gain=0.9), until="60%"))
    assert isinstance(made.fit, Fit)
    assert made.fit.parameters()["gain"] > 0.45
    assert replace(made.fit, other=None).lower(np.array([HORIZON]))[0] == 0
    gain = [parameter.name for parameter in COOLDOWN.parameters].index("gain")
    assert np.linalg.norm(made.fit.spread[1 + gain]) > COOLDOWN.parameters[gain].sd / 2


def test_a_better_rival_costs_confidence() -> None:
    """README's example as it was: a loss that the rate moves at once, as no law here has it."""
    steps = np.arange(500.0, 20_001.0, 100.0)
    rate = 3e-4 * (0.1 + 0.45 * (1 + np.cos(np.pi * steps / 20_000)))
    loss = 2.5 + 9 * steps**-0.4 - 40 * (3e-4 - rate)
    held = Log("a.csv", {"train": Series(steps[:76], loss[:76])}, rate=Series(steps, rate))
    made = forecast(prepare(held))
    assert made.final.low < loss[-1] < made.final.high or not made.confident


def steep(size: float) -> Run:
    """A constant rate and an exponent that no run has."""
    steps = np.arange(50.0, 10_001.0, 50.0)
    noise = 3e-4 * np.random.default_rng(0).standard_normal(len(steps))
    held = Log("a.csv", {"train": Series(steps, (2 + size * steps**-2.0) * np.exp(noise))},
               rate=Series(steps, np.full(len(steps), 1e-3)))  # fmt: skip
    return prepare(held, until="40%")


def test_a_law_that_is_better_by_half_replaces_nothing() -> None:
    choice = choose(steep(2e4))
    usual, other = (choice.backtests[name].error for name in ("cooldown", "power"))
    assert usual / 3 < max(other, TINY) < 0.6 * usual
    assert choice.law.name == "cooldown"
    assert choice.rival == "power"


def test_a_law_that_replaced_the_usual_one_is_not_sure_of_itself() -> None:
    """The power law is taken, and the other end counts too."""
    run = steep(2e5)
    taken, power, usual = forecast(run), forecast(run, "power"), forecast(run, "cooldown")
    assert taken.fit.name == power.fit.name == "power"
    apart = abs(np.log(usual.final.value / power.final.value))
    assert apart > 1e-3
    assert taken.final.value == power.final.value
    assert taken.final.high / taken.final.low > max(power.final.high / power.final.low, np.exp(apart))


def test_three_points() -> None:
    few = Log("few", {"train": Series(np.array([100.0, 200.0, 300.0]), np.array([4.0, 3.5, 3.4]))})
    with pytest.raises(UserError, match="only 3 points"):
        forecast(prepare(few, horizon=1000.0))


@pytest.mark.parametrize("law", [name for name in NAMES if name in ("temporal", "cooldown", "mpl", "annealing")])
def test_laws_that_the_log_cannot_serve(law: str) -> None:
    bare = replace(log("constant"), rate=None)
    with pytest.raises(UserError, match="not in the log"):
        choose(prepare(bare, until="50%"), law)


def test_smooth_averages_rows() -> None:
    run = prepare(log("cosine"), until="100%", smooth=3)
    assert run.steps.tolist()[:2] == [400.0, 700.0]
    assert len(run.steps) == 66
    assert run.steps[-1] == HORIZON - 100
    assert run.until == HORIZON
    assert run.finished


def test_steps_to_a_target() -> None:
    made = forecast(prepare(log("cosine"), until="60%"))
    target = float(made.run.loss[150])
    step = made.steps_to(target)
    assert step == pytest.approx(made.run.steps[150], rel=0.05)
    low, high = made.steps_between(target)
    assert low is not None
    assert low < made.run.steps[150]
    assert high is None or high > made.run.steps[150]
    assert report.when(made, target).startswith(f"at step {step:,.0f} [{low:,.0f}, ")
    assert made.steps_to(1.0) is None
