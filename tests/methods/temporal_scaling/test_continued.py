"""Runs whose logs begin late: shares are of what was logged; and axes that count other things than steps."""

from pathlib import Path

import pytest

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import report
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs.log import Log, assemble
from llmtool.methods.temporal_scaling.look import Look
from llmtool.methods.temporal_scaling.run import prepare

BEGIN = 1_000_000


def continued(steps: int = 6000, begin: int = BEGIN) -> Log:
    return assemble([{"step": begin + n, "loss": 2 + (n + 100) ** -0.3} for n in range(0, steps + 1, 25)], "log")


def test_a_share_is_of_what_was_logged() -> None:
    """Half of the run was step 503,000, before the first one."""
    run = prepare(continued(), until="50%", horizon=BEGIN + 8000.0)
    assert (run.begin, run.until, run.share, run.finished) == (BEGIN, BEGIN + 4000, 0.5, False)
    assert run.logged()[0][[0, -1]].tolist() == [BEGIN, BEGIN + 4000]
    first = next(report.lines(forecast(run)))
    assert first.endswith("fitted on steps 1,000,000 to 1,004,000 of 1,008,000 (50% from 1,000,000)")


def test_what_is_left_is_not_a_part_of_what_was_before() -> None:
    """Step 1,007,500 of 1,008,000 was 99.95% of the run, and so the run was finished."""
    assert not prepare(continued(7500), horizon=BEGIN + 8000.0).finished
    assert prepare(continued(8000), horizon=BEGIN + 8000.0).finished
    assert prepare(continued(6000)).ahead == (BEGIN + 12000, BEGIN + 30000, BEGIN + 60000)


@pytest.mark.parametrize(("begin", "share"), [(0, 0.5), (1000, 0.5), (5000, 0.5)])
def test_a_log_that_lacks_its_first_steps_only_counts_from_0(begin: int, share: float) -> None:
    run = prepare(continued(6000, begin), until="50%", horizon=12000.0)
    assert (run.begin, run.until, run.share) == (0, 6000, share)
    assert run.ahead == ()


@pytest.mark.parametrize(("begin", "every"), [(5000, 20), (5000, 4), (BEGIN, 25)])
@pytest.mark.parametrize("planned", [None, 20000])
def test_a_log_and_its_beginning_count_from_one_step(begin: int, every: int, planned: int | None) -> None:
    """They were of another run as long as the first step was more than half of the last one: 20% of one and the same
    run were 8,000 steps until step 10,000, and 4,000 from then on."""
    records: list[dict[str, float]] = [
        {"step": begin + n, "loss": 2 + (n + 100) ** -0.3} for n in range(0, 15001, every)
    ]
    for record in records:
        record |= {} if planned is None else {"max_steps": begin + planned}
    runs = [prepare(assemble(records[:rows], "log"), until=str(begin + 40 * every)) for rows in (50, 300, len(records))]
    assert {run.begin for run in runs} == {begin if begin / every > 1000 else 0}
    assert len({prepare(assemble(records[:rows], "log")).begin for rows in (50, len(records))}) == 1


@pytest.mark.parametrize("until", ["999999", "0%", "101%", "1008001"])
def test_a_share_outside_of_it_is_refused(until: str) -> None:
    with pytest.raises(UserError, match=r"its horizon is 1,008,000, its first step is 1,000,000"):
        prepare(continued(), until=until, horizon=BEGIN + 8000.0)


def test_the_step_that_is_meant_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"step {BEGIN + n} loss {2 + (n + 100) ** -0.3}" for n in range(0, 6001, 25)]
    (tmp_path / "log").write_text("\n".join(lines))
    Look(until="50%", horizon=BEGIN + 8000.0).runs([str(tmp_path / "log")], Console())
    told = "begins at step 1,000,000: 50% of the way from there to 1,008,000 is step 1,004,000"
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("name", "unit"), [("epoch", "epochs"), ("num_tokens", "tokens")])
def test_what_the_options_count_is_told(
    name: str, unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--horizon 1000 of a log of tokens was refused as one of steps, or taken for epochs without a word."""
    lines = [
        f"{{'loss': {2 + n**-0.3:.4f}, '{name}': {n * 0.5 if unit == 'epochs' else 512 * n}}}" for n in range(1, 80)
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    [run] = Look().runs([str(tmp_path / "log")], Console())
    assert f"{name!r} counts {unit}, and so do --horizon and --fit-until" in " ".join(capsys.readouterr().err.split())
    assert any(f"--horizon {unit.upper()}" in line for line in report.lines(forecast(run)))
    with pytest.raises(UserError, match=rf"before the last {unit[:-1]} .*it counts {unit} here"):
        Look(horizon=10.0).runs([str(tmp_path / "log")], Console())
