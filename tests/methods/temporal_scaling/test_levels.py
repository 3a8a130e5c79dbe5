"""Jumps of the loss inside the fitted part: found where they are, not where the rate, a spike or bad texts explain."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.levels import Change, changes, levels
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.report import lines
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Shape
from tests.methods.temporal_scaling import synthetic

Array = NDArray[np.float64]


def jumped(size: float, at: float, noise: float = 3e-4, every: int = 100) -> Log:
    """A cosine of 20,000 steps whose loss jumps by a share of itself at a step."""
    made = synthetic.log("cosine", noise=noise, every=every)
    train = made.losses["train"]
    return replace(made, losses={"train": Series(train.steps, train.values * np.where(train.steps >= at, 1 + size, 1))})


def test_levels_are_those_after_the_last_jump() -> None:
    steps = np.array([1.0, 2.0, 3.0, 4.0])
    assert levels(steps, ()) == pytest.approx(np.ones(4))
    found = [Change(2.0, 0.1), Change(4.0, -0.3)]
    assert np.log(levels(steps, found)) == pytest.approx([0.2, 0.3, 0.3, 0.0])


@pytest.mark.parametrize(("size", "every"), [(0.02, 100), (-0.02, 100), (0.01, 100), (0.03, 10), (0.05, 250)])
def test_a_jump_is_found_with_its_step_and_size(size: float, every: int) -> None:
    run = prepare(jumped(size, 6000, noise=1e-3, every=every), until="50%")
    [change] = run.changes
    assert change.step == pytest.approx(6000, abs=max(every, 100))
    assert np.expm1(change.size) == pytest.approx(size, abs=4e-3)


def test_what_lies_before_a_jump_is_levelled() -> None:
    plain = prepare(synthetic.log("cosine"), until="50%")
    run = prepare(jumped(0.03, 6000), until="50%")
    steps, loss = run.seen()
    assert loss == pytest.approx(1.03 * np.interp(steps, plain.steps, plain.loss), rel=3e-3)
    assert run.logged()[1] == pytest.approx(run.loss[(run.steps >= run.cut) & (run.steps <= run.until)])
    assert run.level(steps) == pytest.approx(np.where(steps < 6000, 1 / 1.03, 1), rel=3e-3)


def test_a_jump_no_longer_bends_the_forecast_and_costs_confidence() -> None:
    truth = float(synthetic.log("cosine").losses["train"].values[-1]) * 1.03
    made = forecast(prepare(jumped(0.03, 6000), until="50%"))
    assert made.final.value == pytest.approx(truth, rel=8e-3)
    assert made.final.low < truth < made.final.high
    blind = forecast(replace(prepare(jumped(0.03, 6000), until="50%"), changes=()))
    assert abs(blind.final.value / truth - 1) > 2 * abs(made.final.value / truth - 1)
    assert not made.confident
    assert any("jumped by +3.0% at step 6,000" in doubt for doubt in made.doubts)
    assert any("jump" in line and "+3.0% at step 6,000" in line for line in lines(made))


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd", "wsd-sqrt", "constant", "inverse-sqrt"])
@pytest.mark.parametrize("noise", [0.0, 3e-4, 1e-2])
def test_smooth_runs_have_none(shape: Shape, noise: float) -> None:
    for until in ("30%", "100%"):
        assert prepare(synthetic.log(shape, noise=noise), until=until).changes == ()


def test_a_jump_of_the_rate_is_the_laws_business() -> None:
    planned = synthetic.schedule("constant")
    steps = np.arange(100.0, 20_001, 100)
    rate = Series(steps, 3e-4 * np.where(steps < 8000, 1, 0.1))
    loss = synthetic.losses(steps, planned) * np.where(steps < 8000, 1, 0.97)
    assert prepare(Log("two stages", {"train": Series(steps, loss)}, rate=rate), until="70%").changes == ()
    alone = prepare(Log("two stages", {"train": Series(steps, loss)}), until="70%")
    assert len(alone.changes) == 1


def test_a_spike_and_texts_in_bad_order_are_no_jumps() -> None:
    made = synthetic.log("cosine", noise=2e-3, every=20)
    train = made.losses["train"]
    spike = np.where((train.steps > 6000) & (train.steps < 6200), 1.1, 1.0)
    shards = 1 + 0.01 * ((train.steps / 700) % 1)
    for factor in (spike, shards):
        log = replace(made, losses={"train": Series(train.steps, train.values * factor)})
        assert prepare(log, until="50%").changes == ()


def spiked(size: float, at: float, recovery: Callable[[Array], Array], every: int = 20) -> Log:
    """A cosine whose loss jumps up by a share of itself; of that `recovery` of the steps since is left."""
    made = synthetic.log("cosine", noise=2e-3, every=every)
    train = made.losses["train"]
    left = np.where(train.steps >= at, recovery(np.maximum(train.steps - at, 0)), 0)
    return replace(made, losses={"train": Series(train.steps, train.values * (1 + size * left))})


@pytest.mark.parametrize("size", [0.05, 0.3])
@pytest.mark.parametrize("length", [300, 600, 1000, 2000])
@pytest.mark.parametrize("at", [5000, 6500])
@pytest.mark.parametrize("every", [20, 100])
def test_a_spike_that_recovers_slowly_is_no_jump(size: float, length: float, at: float, every: int) -> None:
    """It was fitted at the level of its first rows: a run that had spiked by 30% was told 53% too low."""
    for recovery in (lambda age: np.exp(-age / length), lambda age: np.maximum(1 - age / length, 0)):
        assert prepare(spiked(size, at, recovery, every), until="50%").changes == ()


def test_a_spike_bends_no_forecast() -> None:
    log = spiked(0.3, 4000, lambda age: np.exp(-age / 500))
    truth = float(log.losses["train"].values[-20:].mean())
    assert forecast(prepare(log, until="50%")).final.value == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("size", [0.05, 0.3])
def test_a_level_that_ends_at_once_is_two_jumps(size: float) -> None:
    """Other texts for a while: they are levelled, which is better than as many rows that are wrong."""
    found = prepare(spiked(size, 5000, lambda age: (age < 1000).astype(float)), until="50%").changes
    assert [change.step for change in found] == pytest.approx([5000, 6000], abs=50)
    assert found[0].size > 0 > found[1].size


@pytest.mark.parametrize("shape", ["cosine", "wsd", "linear"])
@pytest.mark.parametrize("at", [3000, 9000, 15_000])
def test_a_jump_before_the_rate_falls_is_one(shape: Shape, at: float) -> None:
    """Where the rate falls, so does the loss, as if it recovered."""
    made = synthetic.log(shape, noise=2e-3, every=20)
    train = made.losses["train"]
    log = replace(made, losses={"train": Series(train.steps, train.values * np.where(train.steps >= at, 1.05, 1))})
    [change] = prepare(log).changes
    assert change.step == pytest.approx(at, abs=100)


def test_few_points_have_none() -> None:
    steps = np.arange(1.0, 20.0)
    assert changes(steps, 5 * steps**-0.1 * np.where(steps > 10, 1.2, 1)) == ()
