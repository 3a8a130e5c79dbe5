"""Several whole runs in one file are refused, with where they begin; a run that was begun again is not."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Log, read_log

FORMS = [
    "step {n} loss {v}",
    "step {n} val_loss {v}",
    '{{"step": {n}, "loss": {v}}}',
    "Epoch {n} - loss={v}",
    "step: {n}\n    loss: {v}",
]


def loss(n: int, run: int = 0) -> float:
    return float(round(2 + run / 10 + 3 * n**-0.5, 5))


def write(path: Path, form: str, runs: list[range], above: str = "") -> Log:
    lines = [each for k, steps in enumerate(runs) for each in [above, *(form.format(n=n, v=loss(n, k)) for n in steps)]]
    path.write_text("\n".join(lines))
    return read_log(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("last", [300, 270, 40])
def test_runs_whose_lines_name_no_total(tmp_path: Path, form: str, last: int) -> None:
    """300 epochs, and 300 more of another model: the second one was told, as a restart."""
    runs = [range(1, 301), range(1, 301), range(1, last + 1)]
    with pytest.raises(UserError, match=r"holds 3 runs, one after the other") as error:
        write(tmp_path / "log", form, runs)
    assert "1 to 300, loss 5 to 2.173; " in str(error.value)
    if last == 40:
        assert f"1 to 40, loss {loss(1, 2):.4g} to {loss(40, 2):.4g}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", FORMS)
def test_what_the_message_says_to_do_works(tmp_path: Path, form: str) -> None:
    with pytest.raises(UserError) as error:
        above = "" if form.startswith("{") else "\rnew run\r\nof a model\r\n"
        write(tmp_path / "log", form, [range(1, 101), range(1, 121), range(1, 111)], above=above)
    command = str(error.value).split("sed -n '")[1].split("'")[0]
    (tmp_path / "second").write_bytes(subprocess.check_output(["sed", "-n", command, str(tmp_path / "log")]))
    [found] = read_log(tmp_path / "second").losses.values()
    assert found.steps.tolist() == list(range(1, 121))
    assert found.values.tolist() == [loss(n, 1) for n in range(1, 121)]


@pytest.mark.parametrize("form", FORMS[:2])
def test_a_run_that_was_begun_again_is_one(tmp_path: Path, form: str) -> None:
    """Broken off and begun anew; from a checkpoint; and rows that were printed twice."""
    [series] = write(tmp_path / "log", form, [range(1, 60), range(1, 301)]).losses.values()
    assert series.values.tolist() == [loss(n, 1) for n in range(1, 301)]
    [series] = write(tmp_path / "log", form, [range(1, 301), range(200, 400)]).losses.values()
    assert len(series) == 399
    text = "\n".join(form.format(n=n, v=loss(n)) for n in range(1, 101))
    (tmp_path / "log").write_text(f"{text}\n{text}")
    [series] = read_log(tmp_path / "log").losses.values()
    assert series.values.tolist() == [loss(n) for n in range(1, 101)]


def test_a_model_that_is_tuned_again_is_a_restart(tmp_path: Path) -> None:
    """The loss is not back at what it was: the step counts anew, for what reason ever."""
    rows = [{"step": n, "loss": 2 + 1 / (n + k)} for k in (0, 100) for n in range(1, 101)]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    assert any("restart" in note for note in read_log(tmp_path / "log").notes)


def test_runs_with_a_total_are_told_where_they_begin(tmp_path: Path) -> None:
    lines = [f"Epoch {e}/8 - loss: {3 + k + 1 / e}" for k in range(3) for e in range(1, 9)]
    (tmp_path / "log").write_text("\n".join(["", *lines]))
    with pytest.raises(UserError, match=r"they begin at lines 2, 10, 18; sed -n '10,17p' cuts the second one out"):
        read_log(tmp_path / "log")


PLANNED = ['{{"step": {n}, "loss": {v}, "max_steps": 1000}}', "step {n}/1000 loss {v}", "[{n}/1000] loss: {v}"]


@pytest.mark.parametrize("form", PLANNED)
@pytest.mark.parametrize(("first", "last"), [(500, 100), (500, 499), (500, 510), (890, 30)])
def test_a_run_short_of_its_end_was_broken_off(tmp_path: Path, form: str, first: int, last: int) -> None:
    """For most of the life of the new one it was refused, as shorter than the old one."""
    log = write(tmp_path / "log", form, [range(1, first + 1), range(1, last + 1)])
    assert log.losses["train"].values.tolist() == [loss(n, 1) for n in range(1, last + 1)]
    told = f"a run that came to step {first} was begun anew at 1: the last one counts"
    assert (told in log.notes) == (first > last)
    assert log.horizon == 1000


@pytest.mark.parametrize("form", PLANNED[:2])
def test_a_run_that_came_to_its_end_was_not(tmp_path: Path, form: str) -> None:
    with pytest.raises(UserError, match="holds 2 runs, one after the other"):
        write(tmp_path / "log", form, [range(1, 1001), range(1, 101)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lengths", [(500, 100), (500, 60, 100)])
def test_where_nothing_tells_the_end_both_ways_out_are_said(
    tmp_path: Path, form: str, lengths: tuple[int, ...]
) -> None:
    with pytest.raises(UserError) as error:
        write(tmp_path / "log", form, [range(1, length + 1) for length in lengths])
    assert "broken off" in str(error.value)
    command = str(error.value).split("sed -n '")[-1].split("'")[0]
    (tmp_path / "last").write_bytes(subprocess.check_output(["sed", "-n", command, str(tmp_path / "log")]))
    [found] = read_log(tmp_path / "last").losses.values()
    assert found.values.tolist() == [loss(n, len(lengths) - 1) for n in range(1, lengths[-1] + 1)]


def test_the_beginning_of_a_run_once_more_is_a_second_one(tmp_path: Path) -> None:
    """With the same seed: its hundred rows took the place of all."""
    lines = [f"step {n} loss {loss(n)}" for length in (300, 100) for n in range(1, length + 1)]
    (tmp_path / "log").write_text("\n".join(lines))
    with pytest.raises(UserError, match="holds 2 runs, one after the other"):
        read_log(tmp_path / "log")


@pytest.mark.parametrize("line", ["x", [1], 2.5, None, True])
def test_a_column_may_be_called_as_ours(tmp_path: Path, line: object) -> None:
    rows = [{"step": n, "loss": loss(n, k), " /line": line} for k in range(2) for n in range(1, 101)]
    (tmp_path / "log.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="holds 2 runs, one after the other"):
        read_log(tmp_path / "log.json")


def test_steps_that_go_back_again_and_again_take_no_longer(tmp_path: Path) -> None:
    """Every return compared all rows behind it with all before: an hour for 800,000 rows."""
    (tmp_path / "log").write_text("\n".join(f"step {n % 4} loss {5 - n % 4}" for n in range(60000)))
    start = time.perf_counter()
    with pytest.raises(UserError, match="out of order, or several runs mixed"):
        read_log(tmp_path / "log")
    assert time.perf_counter() - start < 20
