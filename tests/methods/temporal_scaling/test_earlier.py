"""Finished runs of the same project as a prior: the model of random effects, and forecasts that learn from it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import earlier as module
from llmtool.methods.temporal_scaling import report, saved
from llmtool.methods.temporal_scaling.earlier import WEIGHT, WIDER, agreed, learn, other_recipe, predictive, trial
from llmtool.methods.temporal_scaling.fit import fit, usual
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.misfit import BESIDE, USUAL
from llmtool.methods.temporal_scaling.run import Run, cut_at, prepare
from llmtool.methods.temporal_scaling.schedule import Shape
from tests.methods.temporal_scaling.synthetic import HORIZON, log

HIGH = 0.8
"""A gain as in projects that lie above the usual prior (0.39)."""
SHAPES: tuple[Shape, ...] = ("cosine", "linear", "cosine", "wsd")
PARAMETERS = 1 + len(COOLDOWN.parameters)


def finished(number: int, gain: float = HIGH, **settings: Any) -> Run:
    made = log(SHAPES[number % 4], every=200, seed=number, name=f"earlier {number}", gain=gain,
               reference=HORIZON, **settings)  # fmt: skip
    return prepare(made, until="100%")


def new(shape: Shape = "wsd", until: str = "40%", **settings: Any) -> Run:
    return prepare(log(shape, every=100, seed=9, gain=HIGH, reference=HORIZON, **settings), until=until)


def off(value: float, run: Run) -> float:
    return value / float(run.loss[-1]) - 1


def test_finished_runs_tell_the_gain_of_their_project() -> None:
    run = new()
    alone, one, three = (forecast(run, like=[finished(n) for n in range(count)]) for count in (0, 1, 3))
    assert off(alone.final.value, run) > 0.03
    assert abs(off(one.final.value, run)) < 0.015
    assert abs(off(three.final.value, run)) < 0.006
    # All of a fall that lies ahead: what they tell narrows the interval, and keeps it wide while they are few.
    widths = [(each.final.high - each.final.low) / each.final.value for each in (alone, one, three)]
    assert widths[2] < 0.75 * widths[1]
    assert widths[2] < widths[0]
    assert all(each.final.low < run.loss[-1] < each.final.high for each in (one, three))
    assert alone.doubts[0].endswith("(--like)")
    half = new("cosine", "47%")
    before, after = forecast(half), forecast(half, like=[finished(n) for n in range(4)])
    assert after.confident
    assert not before.confident
    assert after.final.low < half.loss[-1] < after.final.high
    assert three.why.startswith("its constants are known from 3 finished runs")


def test_a_run_has_ended_within_two_per_cent_of_its_horizon() -> None:
    assert len(learn([cut_at(finished(0), 0.985 * HORIZON)], new()).runs) == 1
    with pytest.raises(UserError, match="has not ended"):
        learn([cut_at(finished(0), 0.97 * HORIZON)], new())


@pytest.mark.parametrize(("gain", "side"), [(1.5, "above"), (0.1, "below")])
def test_a_finished_run_tells_its_gain_as_much_below_as_above(gain: float, side: str) -> None:
    run = finished(0, gain=gain)
    steps, loss = run.seen()
    made = learn([run], new())
    wide = replace(usual(COOLDOWN, float(np.log(loss[-1])), WIDER), reference=made.reference)
    alike = replace(wide, above=1.0, below=1.0)
    for prior, same in ((alike, True), (replace(alike, **{side: getattr(wide, side)}), False)):
        fitted = fit(COOLDOWN, steps, loss, run.horizon, run.schedule, 2, BESIDE, prior)
        assert np.allclose(fitted.theta, made.means[0], rtol=0, atol=1e-4) == same


def test_beside_earlier_runs_errors_count_as_independent() -> None:
    run, like = new("cosine", "60%"), [finished(number) for number in range(3)]
    prior = agreed(learn(like, run).prior(), run)
    told = forecast(run, like=like).final.value
    ends = [
        fit(COOLDOWN, *run.seen(), run.horizon, run.schedule, misfit=misfit, prior=prior).predict(np.array([HORIZON]))[
            0
        ]
        for misfit in (BESIDE, USUAL)
    ]
    assert told == pytest.approx(ends[0], rel=1e-5)
    assert abs(ends[1] / ends[0] - 1) > 1e-4


def test_one_earlier_run_is_not_enough_for_a_whole_fall() -> None:
    cases: tuple[tuple[Shape, str, int, bool], ...] = (
        ("wsd", "70%", 1, True),
        ("wsd", "70%", 2, False),
        ("cosine", "70%", 1, False),
    )
    for shape, until, runs, doubted in cases:
        made = forecast(new(shape, until), like=[finished(n) for n in range(runs)])
        assert any("one earlier run does not tell" in doubt for doubt in made.doubts) == doubted


def test_one_earlier_run_of_another_horizon_and_constant() -> None:
    """r is told over another area, and the constant from the run's own losses."""
    other = prepare(
        log("cosine", every=200, horizon=3 * HORIZON, gain=HIGH, reference=HORIZON, constant=2.3), until="100%"
    )
    run = new()
    made = forecast(run, like=[other])
    assert made.fit.parameters()["gain"] > 0.6
    assert abs(off(made.final.value, run)) < 0.03


def test_random_effects_against_their_closed_form() -> None:
    """Measurements without error of many runs: the mean, and the covariance over runs, the diagonal's share apart."""
    generator = np.random.default_rng(2)
    scatter = np.full(PARAMETERS, 0.1)
    root = np.eye(PARAMETERS) * 0.1
    root[3, 1] = 0.3  # gain goes with r
    centre = usual(COOLDOWN, 1.0).centre
    means = centre + generator.standard_normal((400, PARAMETERS)) @ root.T
    exact = np.repeat(1e-8 * np.eye(PARAMETERS)[None], len(means), axis=0)
    found, covariance = predictive(means, exact, scatter)
    np.testing.assert_allclose(found, means.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(covariance, np.cov(means.T, bias=True), atol=3e-3)
    assert covariance[3, 1] / np.sqrt(covariance[3, 3] * covariance[1, 1]) > 0.8


def test_one_run_leaves_the_scatter_that_is_believed() -> None:
    scatter = np.linspace(0.01, 0.08, PARAMETERS)  # far within the usual prior, which holds the mean loosely
    centre = usual(COOLDOWN, 1.0).centre
    covariance = predictive(centre[None], 1e-8 * np.eye(PARAMETERS)[None], scatter)[1]
    # Twice, since the next run lies about the mean and the mean about the one run seen, which is no scatter itself.
    assert np.sqrt(np.diag(covariance)) == pytest.approx(np.sqrt(2 * WEIGHT / (WEIGHT + 1)) * scatter, rel=0.05)


def test_a_measurement_counts_by_its_precision() -> None:
    scatter = np.full(PARAMETERS, 0.05)
    centre = usual(COOLDOWN, 1.0).centre
    means = np.stack([centre, centre + 1.0])
    errors = np.stack([1e-4 * np.eye(PARAMETERS), 4.0 * np.eye(PARAMETERS)])
    found, _ = predictive(means, errors, scatter)
    assert np.abs(found - centre).max() < 0.1


def test_a_prior_that_says_nothing_new_changes_nothing() -> None:
    run = new("cosine")
    steps, loss = run.seen()
    plain = fit(COOLDOWN, steps, loss, run.horizon, run.schedule)
    prior = usual(COOLDOWN, float(np.log(loss[-1])), schedule=run.schedule)
    same = fit(COOLDOWN, steps, loss, run.horizon, run.schedule, prior=prior)
    np.testing.assert_allclose(same.theta, plain.theta, atol=1e-3)


def test_earlier_runs_are_tried_on_one_another() -> None:
    earlier = learn([finished(number) for number in range(4)], new())
    tried = trial(earlier, 0.4)
    assert tried is not None
    assert len(tried.errors) == 4
    assert tried.error < 0.01
    assert trial(learn([finished(0)], new()), 0.4) is None
    # Runs that do not tell one another leave a wider interval, and say so.
    mixed = [finished(n, gain=gain) for n, gain in ((0, 0.3), (4, 1.5), (8, 0.3), (12, 1.5))]
    apart = trial(learn(mixed, new()), 0.3)
    assert apart is not None
    assert apart.error > 2 * tried.error
    made, alike = (forecast(new("cosine", "30%"), like=like) for like in (mixed, [finished(n) for n in range(4)]))
    assert made.final.high - made.final.low > 1.5 * (alike.final.high - alike.final.low)
    assert made.trial is not None
    assert made.surprise == made.trial.surprise
    assert any(line.strip().startswith("earlier runs") for line in report.lines(made))
    facts = saved.to_json(made, [])
    assert facts["earlier_runs"] == {"runs": 4, "missed": list(made.trial.errors), "contradicted": made.contradicted}


def test_misses_beyond_what_was_claimed_widen_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surprise is the root mean square of misses over claims, drawn to 1 and widened for few runs."""
    held = learn([finished(number) for number in range(4)], new())
    for claimed in (0.001, 0.1):
        monkeypatch.setattr(module, "sd_at", lambda *_, claimed=claimed: claimed)
        tried = trial(held, 0.4)
        assert tried is not None
        ratios = np.array(tried.errors) / claimed
        few = 1.943180 / 1.644854  # the 95% points of Student's with six degrees of freedom, and of the normal
        assert tried.surprise == pytest.approx(few * np.sqrt((2 + np.sum(ratios**2)) / 6), rel=1e-4)


def test_points_count_for_a_quarter_beside_earlier_runs() -> None:
    run = new("cosine", "60%")
    prior = learn([finished(number) for number in range(4)], run).prior()
    known = prior.weight.T @ prior.weight
    told = []
    for runs in (0, 4):
        made = fit(COOLDOWN, *run.seen(), run.horizon, run.schedule, prior=replace(prior, runs=runs))
        told.append(np.linalg.inv(made.spread @ made.spread.T) - known)
    np.testing.assert_allclose(told[1], told[0] / 4, rtol=0.02, atol=2e-3 * np.abs(told[0]).max())


def test_a_run_unlike_the_earlier_ones_widens_what_they_tell() -> None:
    """Of the same project the scale is near 1; one of another slope keeps to its own losses, and is told so."""
    like = [finished(number) for number in range(4)]
    scales = [agreed(learn(like, run).prior(), run).scale for run in (new("cosine", "50%"), new("linear", "50%"))]
    assert max(scales) < 1.3
    other = new("cosine", "50%", r=0.05, alpha=0.9)
    prior = learn(like, other).prior()
    wide = agreed(prior, other)
    assert wide.scale > 1.5
    np.testing.assert_allclose(wide.sd, wide.scale * prior.sd)
    np.testing.assert_allclose(wide.weight * wide.scale, prior.weight)
    made, usual_one = forecast(other, like=like), forecast(new("cosine", "50%"), like=like)
    assert f"lies {wide.scale:.1f} times as far as they lie apart" in made.why
    assert "apart" not in usual_one.why
    assert made.final.high - made.final.low > usual_one.final.high - usual_one.final.low
    assert made.final.low < other.loss[-1] < made.final.high


def test_another_peak_rate_or_batch_costs_confidence() -> None:
    def logged(run: Run, times: float, tokens: float | None) -> Run:
        assert run.log.rate is not None
        rate = replace(run.log.rate, values=times * run.log.rate.values)
        seen = None if tokens is None else Series(run.steps, tokens * run.steps)
        return replace(run, log=replace(run.log, rate=rate, tokens=seen))

    run = new("cosine", "50%")
    like = [finished(number) for number in range(4)]
    assert forecast(run, like=like).confident
    assert other_recipe([logged(like[0], 1.4, None), logged(like[1], 9, None)], run) == ()
    (line,) = other_recipe([logged(each, 2.5, None) for each in like], run)
    assert line.startswith("the peak learning rate is 0.0003, and that of the nearest earlier run 0.000747")
    assert line in forecast(run, like=[logged(each, 2.5, None) for each in like]).doubts
    (line,) = other_recipe([logged(like[0], 1, 2**19)], logged(run, 1, 2**18))
    assert "tokens a step is 262,144" in line
    assert other_recipe([logged(like[0], 1, None)], logged(run, 1, 2**18)) == ()
    longer = replace(run, horizon=4 * run.horizon)
    assert other_recipe([replace(like[0], horizon=1.5 * run.horizon)], longer) == ()
    (line,) = other_recipe(like, longer)
    assert line.startswith("the number of steps is 80,000, and that of the nearest earlier run 20,000:")


def test_what_cannot_be_learnt_from_is_refused_by_name() -> None:
    run = new()
    unfinished = prepare(log("cosine", name="half.csv"), until="50%")
    bare = prepare(replace(log("cosine", name="bare.csv"), rate=None), horizon=HORIZON)
    other = prepare(replace(log("cosine", name="other.csv"), losses={"code": log("cosine").losses["train"]}))
    for wrong, says in (
        (unfinished, "half.csv: has not ended .step 10,000 of 20,000."),
        (bare, "bare.csv: has no learning rate"),
        (other, "other.csv: the code loss"),
    ):
        with pytest.raises(UserError, match=says):
            forecast(run, like=[wrong])
    with pytest.raises(UserError, match="has no learning rate, which --like needs"):
        forecast(prepare(replace(log("cosine"), rate=None), until="50%"), like=[finished(0)])
    with pytest.raises(UserError, match="--like goes with --law cooldown, not with power"):
        forecast(run, "power", like=[finished(0)])
    hashed = [replace(each, log=replace(each.log, tokenizer=name)) for each, name in ((run, "a"), (finished(0), "b"))]
    with pytest.raises(UserError, match="another tokenizer"):
        forecast(hashed[0], like=hashed[1:])


def test_a_run_cut_is_the_run_read_up_to_there() -> None:
    made = log("cosine")
    whole, part = prepare(made, until="100%"), prepare(made, until="30%")
    again = cut_at(whole, 0.3 * HORIZON)
    assert (again.cut, again.until, again.changes) == (part.cut, part.until, part.changes)
    np.testing.assert_array_equal(again.seen()[1], part.seen()[1])


def test_a_model_trained_on_is_not_young() -> None:
    """Few updates say nothing where the loss begins where it was; a run from scratch falls by a fifth and more."""
    steps = np.arange(10.0, 2001.0, 10.0)

    def of(fallen: float) -> Run:
        return prepare(Log("run", {"train": Series(steps, 2 + 2 * fallen * np.exp(-steps / 100))}), until="30%")

    assert of(1.0).youth == pytest.approx(0.03 * np.log(1500 / 600))
    further = of(0.1)
    assert further.youth == 0
    late = replace(further, steps=further.steps + 200.0, until=further.until + 200.0)
    assert late.youth > 0  # the beginning is not in the log
