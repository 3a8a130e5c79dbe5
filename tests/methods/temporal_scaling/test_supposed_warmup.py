"""A log that begins at the peak of the rate, far from step 0: there was a warm-up, or there was none."""

from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.console import Console
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.look import Look
from llmtool.methods.temporal_scaling.run import Run, prepare
from llmtool.methods.temporal_scaling.schedule import Plan
from tests.methods.temporal_scaling.synthetic import HORIZON, losses, rows, write_jsonl

BEGIN = 2000.0


def late(warmup: float) -> Log:
    """A cosine whose rows of the first 2,000 steps are not in the log."""
    planned = Plan("cosine").schedule(HORIZON, warmup)
    steps = np.arange(BEGIN, HORIZON + 1, 100)
    eta = np.where(steps == BEGIN, 1.0, planned.rate(steps))  # as a log shows it that was cut there
    return Log("late", {"train": Series(steps, losses(steps, planned))}, rate=Series(steps, eta))


def looked_at(warmup: float, until: str = "40%", given: float | None = None) -> Run:
    return prepare(late(warmup), until=until, warmup=given)


def test_the_steps_before_a_log_may_be_a_warm_up() -> None:
    supposed = looked_at(BEGIN).schedule
    assert supposed is not None
    assert supposed.skipped
    assert supposed.warmup == BEGIN
    bare = supposed.without_warmup()
    given = looked_at(BEGIN, given=0.0).schedule
    assert given is not None
    assert not given.skipped
    assert not bare.skipped
    at = np.linspace(0, HORIZON, 300)
    np.testing.assert_allclose(bare.rate(at), given.rate(at))
    np.testing.assert_allclose(bare.area(at), given.area(at))
    assert bare.warmup == given.warmup == 0.0


def test_where_the_points_cannot_tell_the_end_is_doubted_and_the_interval_spans_both() -> None:
    made = forecast(looked_at(0.0))
    other = forecast(looked_at(0.0, given=0.0))
    truth = float(made.run.loss[-1])
    assert abs(other.final.value / truth - 1) < abs(made.final.value / truth - 1)
    off = 100 * (other.final.value / made.final.value - 1)
    (doubt,) = [each for each in made.doubts if "--warmup 0" in each]
    assert off > 0
    assert (
        f"begins at step 2,000, and a warm-up to there is supposed; without one the end is {off:.1f}% higher" in doubt
    )
    assert made.final.low < made.final.value < other.final.value < made.final.high
    assert other.final.low < truth < other.final.high
    assert not any("--warmup" in each for each in other.doubts)


def test_a_warm_up_that_was_is_not_doubted() -> None:
    made = forecast(looked_at(BEGIN, until="60%"))
    assert not any("--warmup" in each for each in made.doubts)
    assert made.final.value == pytest.approx(float(made.run.loss[-1]), rel=0.006)


def test_what_is_supposed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_jsonl(tmp_path / "late.jsonl", rows(late(0.0)))
    Look().runs([str(log)], Console())
    told = "begins at step 2,000, at the peak of the learning rate: a warm-up to there is supposed (--warmup)"
    assert told in " ".join(capsys.readouterr().err.split())
    Look(warmup=0.0).runs([str(log)], Console())
    assert "supposed" not in capsys.readouterr().err


def test_of_a_continued_run_no_warm_up_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = [{**row, "step": row["step"] + 1e6} for row in rows(late(BEGIN))]
    (run,) = Look(until="50%").runs([str(write_jsonl(tmp_path / "on.jsonl", begun))], Console())
    assert run.begin == 1e6 + BEGIN
    told = " ".join(capsys.readouterr().err.split())
    assert "begins at step 1,002,000: 50% of the way" in told
    assert "supposed" not in told
