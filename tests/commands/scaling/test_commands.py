"""Saved fits, comparisons and runs that are followed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmtool.commands.scaling import fit as fit_command
from llmtool.commands.scaling import laws as commands
from llmtool.commands.scaling.settings import CompareSettings, FitSettings, PositionsSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.figures import claim_figure
from llmtool.methods.temporal_scaling import comparison, plot, report, saved
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.intervals import ALONE
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.look import Look
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling.synthetic import log, losses, position_log, rows, schedule, write_jsonl

QUIET = Console(-1)


@pytest.fixture(scope="module")
def made() -> Forecast:
    return forecast(prepare(log("cosine"), until="50%"), "cooldown")


def save(made: Forecast, path: Path) -> Path:
    path.write_text(json.dumps(saved.to_json(made, [3.0])))
    return path


def test_a_saved_fit_predicts_the_same(made: Forecast, tmp_path: Path) -> None:
    path = save(made, tmp_path / "fit.json")
    (row,) = commands.predict_fit(path, [], Look(), None)
    assert row == {"step": made.run.horizon, **saved.interval_to_json(made.final)}
    (earlier,) = commands.predict_fit(path, [15_000.0], Look(), None)
    assert earlier["value"] == pytest.approx(float(made.fit.predict(np.array([15_000.0]))[0]))


def test_a_saved_fit_tells_another_schedule(made: Forecast, tmp_path: Path) -> None:
    path = save(made, tmp_path / "fit.json")
    steps = [10_000.0, 20_000.0]
    constant = commands.predict_fit(path, steps, Look(shape="constant"), None)
    own = commands.predict_fit(path, steps, Look(), None)
    assert constant[1]["value"] > own[1]["value"] + 0.04
    other = write_jsonl(tmp_path / "constant.jsonl", rows(log("constant")))
    same = commands.predict_fit(path, steps, Look(), str(other))
    assert [row["value"] for row in same] == pytest.approx([row["value"] for row in constant], rel=1e-3)
    # A schedule not seen is told less surely: above, since below it is the fall of the run's own that reaches down.
    above = [each[1]["high"] - each[1]["value"] for each in (own, constant)]
    assert above[1] > above[0] + 0.01
    longer = commands.predict_fit(path, [40_000.0], Look(shape="cosine", horizon=40_000), None)
    truth = losses(np.array([40_000.0]), schedule("cosine", 40_000.0), noise=0.0, reference=schedule("cosine").total)
    assert longer[0]["value"] == pytest.approx(truth[0], rel=3e-3)


def test_the_law_over_positions_is_saved_too(tmp_path: Path) -> None:
    made = forecast(prepare(position_log(), until="50%"), "temporal")
    path = save(made, tmp_path / "fit.json")
    (row,) = commands.predict_fit(path, [], Look(), None)
    assert row["value"] == pytest.approx(made.final.value)
    with pytest.raises(UserError, match="knows no schedule"):
        commands.predict_fit(path, [], Look(shape="cosine"), None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "other/1"}, "not a saved fit"),
        ({"fit": {"law": "cooldown"}}, "fit: horizon is missing"),
        ({"fit": 3}, "fit: 3: not an object"),
    ],
)
def test_what_is_no_saved_fit(made: Forecast, tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(saved.to_json(made, []) | change))
    with pytest.raises(UserError, match=says):
        commands.predict_fit(path, [], Look(), None)


def test_steps_beyond_the_run_are_refused(made: Forecast, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="outside the run"):
        commands.predict_fit(save(made, tmp_path / "fit.json"), [30_000.0], Look(), None)


def test_odds() -> None:
    draws = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 5.0]])
    np.testing.assert_allclose(comparison.odds(draws), [[0.5, 0.625], [0.375, 0.5]])


def test_a_comparison_orders_runs_and_says_how_surely(made: Forecast) -> None:
    def odds_of(constant: float, seed: int = 1) -> float:
        other = forecast(prepare(log("cosine", constant=constant, seed=seed), until="50%"), "cooldown")
        return float(comparison.odds(comparison.ends([made, other]))[0, 1])

    level = forecast(prepare(log("constant"), until="50%"), "cooldown")
    assert 0.3 < float(np.corrcoef(comparison.ends([level, level])).flat[1]) < 0.7
    twice = comparison.ends([made, made])  # what a fall of the rate ahead takes off is the same in both
    assert 0.6 < float(np.corrcoef(twice).flat[1]) < 0.95
    reach = np.log(np.quantile(twice[0], 0.05) / made.final.value)  # differences of runs were scored with the whole
    assert ALONE * reach == pytest.approx(np.log(made.final.low / made.final.value), rel=0.1)
    assert odds_of(2.9) > 0.99
    assert odds_of(2.5) < 0.01
    assert 0.1 < odds_of(2.7) < 0.9


def test_compare_logs(tmp_path: Path) -> None:
    paths = [
        write_jsonl(tmp_path / f"{name}.jsonl", rows(log("cosine", constant=constant, seed=seed)))
        for seed, (name, constant) in enumerate((("a", 2.8), ("b", 2.7)))
    ]
    asked = CompareSettings(fit_until="50%", law="cooldown", plot=tmp_path / "c.png")
    facts, lines = commands.compare_logs([str(p) for p in paths], asked)
    assert facts["lowest"] == str(paths[1])
    assert facts["runs"][1]["probability_below"][str(paths[0])] > 0.95
    assert sum(run["probability_lowest"] for run in facts["runs"]) == pytest.approx(1.0)
    assert lines[-1].startswith(f"P({paths[1]} ends below {paths[0]}) = ")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="two or more"):
        commands.compare_logs([str(paths[0])])
    renamed = write_jsonl(
        tmp_path / "v.jsonl", [{"step": r["step"], "lr": r["lr"], "val_loss": r["loss"]} for r in rows(log())]
    )
    with pytest.raises(UserError, match="different losses"):
        commands.compare_logs([str(paths[0]), str(renamed)], fit_until="50%", law="cooldown")


def test_backtest_of_a_finished_run(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "run.jsonl", rows(log("cosine", every=800)))
    table = commands.backtest_logs([str(path)], Look(), "cooldown", QUIET, ())
    assert [row["fit_until"] for row in table] == ["20%", "30%", "50%"]
    assert "refused" in table[0]
    made = table[2]
    assert abs(made["error"]) < 0.005
    assert made["covered"]
    assert abs(made["error"]) < abs(made["error_of_last_value"]) / 5
    whole = commands.backtests(table)
    assert whole["schema"] == "llmtool.scaling-backtest/1"
    assert whole["coverage"] == np.mean([row["covered"] for row in table[1:]])
    assert whole["median_error"] == pytest.approx(np.median([abs(row["error"]) for row in table[1:]]))
    text = list(commands.backtest_lines(table))
    assert "refused: only" in text[1]
    assert len(text) == 4


def test_positions_of_a_log(tmp_path: Path) -> None:
    series = position_log().positions["val"]
    records = [
        {"step": float(s), "lr": 1.0, "pos_val": list(map(float, v))}
        for s, v in zip(series.steps, series.values, strict=True)
    ]
    path = write_jsonl(tmp_path / "run.jsonl", records)
    (facts,) = commands.positions_of(str(path), PositionsSettings(plot=tmp_path / "p.svg"))
    assert (facts["positions"], facts["metric"]) == (64, "val")
    assert facts["k"] == pytest.approx(1.5, rel=0.2)
    told = list(commands.position_lines(facts))
    assert len(told) == 6
    assert f"loss at the horizon by this law: {facts['final_loss_of_law']:.4f}" in told[4]
    assert abs(facts["last_tenth_error"]) < 0.5
    assert (tmp_path / "p.svg").stat().st_size > 10_000
    bare = write_jsonl(tmp_path / "bare.jsonl", rows(log()))
    with pytest.raises(UserError, match="no losses by position"):
        commands.positions_of(str(bare), PositionsSettings())


def test_positions_of_several_sets(tmp_path: Path) -> None:
    series = position_log().positions["val"]
    records = [
        {"step": float(s), "lr": 1.0, "pos_near": list(map(float, v)), "pos_far": list(map(float, v + 0.5))}
        for s, v in zip(series.steps, series.values, strict=True)
    ]
    path = str(write_jsonl(tmp_path / "run.jsonl", records))
    near, far = commands.positions_of(path, PositionsSettings(set=["near", "far"], plot=tmp_path / "p.svg"))
    assert (near["metric"], far["metric"]) == ("near", "far")
    assert far["final_loss_of_law"] == pytest.approx(near["final_loss_of_law"] + 0.5, abs=1e-3)
    assert near["k"] == pytest.approx(far["k"], rel=1e-3)
    with pytest.raises(UserError, match="--metric names one set"):
        commands.positions_of(path, PositionsSettings(metric="near", set=["far"]))
    with pytest.raises(UserError, match="other"):
        commands.positions_of(path, PositionsSettings(set=["other"]))


def test_follow_fits_again_as_the_log_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = rows(log("cosine", every=200))
    future = [{"step": r["step"], "lr": r["lr"]} for r in records]
    path = tmp_path / "run.jsonl"
    path.write_text("")
    stages = iter((5, 40, 40, 60, 100))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        write_jsonl(path, [*records[: next(stages)], *future])

    asked = FitSettings(law="cooldown", max_predicted_loss=2.0, follow=True, every=7.0)
    request = fit_command.Request([str(path)], asked)
    assert fit_command.run(request, QUIET, sleep=sleep) == 3
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in out] == [
        "step 8,000 of 20,000", "step 12,000 of 20,000", "step 20,000 of 20,000",
    ]  # fmt: skip
    assert waits == [7.0] * 5


def test_joint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        str(write_jsonl(tmp_path / f"{shape}.jsonl", rows(log(shape, reference=15_000.0))))
        for shape in ("constant", "cosine")
    ]  # fmt: skip
    request = fit_command.Request(paths, FitSettings(output=tmp_path / "fit.json", joint=True), as_json=True)
    assert fit_command.run(request, QUIET) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [run["mape"] < 0.2 for run in facts["runs"]] == [True, True]
    (row,) = commands.predict_fit(tmp_path / "fit.json", [], Look(shape="wsd"), None)
    assert row["value"] < facts["runs"][0]["final_loss"]["value"]
    with pytest.raises(UserError, match="two or more logs"):
        fit_command.run(replace(request, sources=paths[:1], asked=FitSettings(joint=True)), QUIET)


def test_report_of_a_forecast(made: Forecast) -> None:
    text = "\n".join(report.lines(made, [3.0, 1.0]))
    assert f"final loss        {made.final.value:.4f}  [{made.final.low:.4f}, {made.final.high:.4f}]" in text
    assert "not before the horizon" in text
    assert "NOT CONFIDENT" not in text
    assert "*cooldown" in text
    chart = list(report.chart(made))
    assert {len(line) <= 83 for line in chart} == {True}
    assert {symbol for line in chart[:-3] for symbol in line.partition("|")[2]} >= set("o.:")


def test_durations() -> None:
    assert [report.duration(s) for s in (30, 600, 9000, 400_000)] == [
        "30 seconds",
        "10.0 minutes",
        "2.5 hours",
        "4.6 days",
    ]


def test_a_figure_is_drawn_in_the_format_of_its_name(made: Forecast, tmp_path: Path) -> None:
    plot.draw(made, tmp_path / "a.png")
    plot.draw(made, tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "a.svg").read_text()
    assert "<svg" in first
    doubtful = replace(made, doubts=("what a fall of the rate takes off differs among projects, " * 3,))
    plot.draw(doubtful, tmp_path / "b.svg")
    size = [re.search(r'viewBox="([^"]+)"', (tmp_path / name).read_text()) for name in ("a.svg", "b.svg")]
    assert size[0] is not None
    assert size[1] is not None
    assert size[0][1] == size[1][1]
    with pytest.raises(UserError, match="cannot draw"):
        claim_figure(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (Look(peak=1.0), "--peak needs --schedule"),
        (Look(end=1.0), "--end-lr needs --schedule"),
        (Look(shape="cosine", decay=0.5), "--decay belongs to"),
        (Look(shape="cosine", end=1.0), "needs a --peak"),
        (Look(shape="cosine", peak=1.0, end=2.0), "lies above the peak"),
    ],
)
def test_wrong_schedule_flags(look: Look, says: str) -> None:
    with pytest.raises(UserError, match=says):
        look.plan()


def test_runs_that_have_ended_are_learnt_from(tmp_path: Path) -> None:
    """--like: two finished runs of a project whose falls take off more than most do; a run is none of its own."""
    paths = [
        str(write_jsonl(tmp_path / f"{shape}.jsonl", rows(log(shape, every=200, gain=0.9, reference=20_000.0))))
        for shape in ("cosine", "linear", "wsd")
    ]
    truth = read_log(paths[2]).losses["train"].values[-1]
    (alone,) = fit_command.forecasts(paths[2:], FitSettings(fit_until="40%"), QUIET)
    (told,) = fit_command.forecasts(paths[2:], FitSettings(fit_until="40%", like=paths), QUIET)
    assert alone["final_loss"]["value"] > 1.03 * truth
    assert told["final_loss"]["value"] == pytest.approx(truth, rel=0.015)
    assert told["earlier_runs"]["runs"] == 2
    assert len(told["earlier_runs"]["missed"]) == 2
    assert alone["earlier_runs"] is None
    assert next(iter(alone["endings"])).startswith("if the fall of the rate takes off")
    saved_to = tmp_path / "fit.json"
    saved_to.write_text(json.dumps(told))
    (row,) = commands.predict_fit(saved_to, [], Look(), None)
    assert row == {"step": 20_000.0, **told["final_loss"]}
    each_other = commands.backtest_logs(paths, Look(until="50%"), "auto", QUIET, paths)
    assert max(abs(row["error"]) for row in each_other) < 0.02
    with pytest.raises(UserError, match="no earlier run of itself"):
        fit_command.forecasts(paths[2:], FitSettings(like=paths[2:]), QUIET)
    with pytest.raises(UserError, match="--joint goes with"):
        fit_command.forecasts(paths, FitSettings(joint=True, like=paths), QUIET)
