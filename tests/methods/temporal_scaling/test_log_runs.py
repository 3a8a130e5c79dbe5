"""Several whole runs in one file are refused, with where they begin; a run that was begun again is not."""

import json
import subprocess
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
