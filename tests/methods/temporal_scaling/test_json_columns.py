"""Logs that are JSON objects of columns, and JSON rows that only look like them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import read_log
from tests.methods.temporal_scaling.test_log_shapes import LOSSES, RATES, ROWS, STEPS

COLUMNS: dict[str, tuple[Callable[[], object], bool]] = {
    "lists": (lambda: {"step": STEPS, "loss": LOSSES, "lr": RATES, "seed": 1, "other": [1, 2]}, True),
    "pandas": (
        lambda: {name: {str(i): each for i, each in enumerate(column)}
                 for name, column in (("loss", LOSSES), ("lr", RATES), ("step", STEPS))}, True,
    ),
    "sections": (
        lambda: {"config": {"lr": 1.0, "betas": [0.9, 0.95]}, "summary": {"val/loss": 3.0},
                 "history": {"train": {"iter": STEPS, "train_loss": LOSSES, "train_lr": RATES}}}, True,
    ),
    "TensorBoard's page": (lambda: [[1.7e9 + s, s, v] for s, v, _ in ROWS], False),
}  # fmt: skip


@pytest.mark.parametrize("form", COLUMNS)
@pytest.mark.parametrize("indent", [None, 1])
def test_columns_of_json(tmp_path: Path, form: str, indent: int | None) -> None:
    made, rated = COLUMNS[form]
    (tmp_path / "log").write_text(json.dumps(made(), indent=indent))
    log = read_log(tmp_path / "log")
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == (STEPS, LOSSES)
    assert (log.rate is not None) == rated


def test_sections_of_columns_are_one_log(tmp_path: Path) -> None:
    """In the order of the steps: those that an export holds in another passed for a run that was restarted."""
    steps, losses = list(range(10, 1010, 10)), [4 - i / 100 for i in range(100)]
    train = {"iter": [None, *steps[60:], *steps[:60]], "loss": [5.0, *losses[60:], *losses[:60]]}
    columns = {"val": {"iter": steps[4::5], "loss": losses[4::5]}, "train": train}
    for sections in (columns, {"history": columns, "config": {"lr": 1.0, "betas": [0.9, 0.95]}}):
        (tmp_path / "log").write_text(json.dumps(sections))
        log = read_log(tmp_path / "log")
        assert log.losses["train"].values.tolist() == losses
        assert log.losses["val"].steps.tolist() == steps[4::5]
        assert not log.notes
    (tmp_path / "one").write_text(json.dumps({"history": {"step": STEPS, "loss": LOSSES}}))
    assert [*read_log(tmp_path / "one").losses] == ["train"]
    (tmp_path / "held").write_text(json.dumps({"val": {"step": STEPS, "loss": LOSSES}}))
    assert [*read_log(tmp_path / "held").losses] == ["val"]
    (tmp_path / "two").write_text(json.dumps({name: {"step": STEPS, "loss": LOSSES} for name in ("web", "code")}))
    assert sorted(read_log(tmp_path / "two").losses) == ["code", "web"]


@pytest.mark.parametrize("around", [lambda each: each, lambda each: {"config": {"lr": 1.0}, "history": each}])
def test_columns_without_a_step(tmp_path: Path, around: Callable[[object], object]) -> None:
    """What Keras keeps of a training, in the order in which it stands there, and not in that of the losses."""
    (tmp_path / "history").write_text(json.dumps(around({"loss": LOSSES, "val_loss": LOSSES})))
    log = read_log(tmp_path / "history")
    assert {name: series.values.tolist() for name, series in log.losses.items()} == {"train": LOSSES, "val": LOSSES}
    (tmp_path / "seen").write_text(json.dumps(around({"val_losses": LOSSES, "track_tokens_seen": STEPS})))
    log = read_log(tmp_path / "seen")
    assert (log.unit, log.losses["val"].steps.tolist()) == ("tokens", STEPS)
    (tmp_path / "two").write_text(json.dumps(around({"a": {"loss": LOSSES}, "b": {"loss": LOSSES}})))
    with pytest.raises(UserError):  # which of them comes first?
        read_log(tmp_path / "two")


BEFORE = {
    "a schedule": {"config": {"schedule": {"step": [0, 1000], "lr": [1.0, 0.1]}}},
    "losses": {"config": {"losses": [1.0, 0.1]}},
    "tokens": {"data": {"tokens": [1, 2, 3]}},
    "lists": {"loss": [2.0, 3.0], "lr": [1.0, 2.0]},
}


@pytest.mark.parametrize("form", BEFORE)
def test_rows_below_an_object_of_lists_are_the_log(tmp_path: Path, form: str) -> None:
    rows = [BEFORE[form], *({"step": s, "loss": v} for s, v, _ in ROWS)]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    assert read_log(tmp_path / "log").losses["train"].steps.tolist() == STEPS


@pytest.mark.parametrize(
    "row",
    [lambda s, v: {"step": s, "loss": v, "by_position": [v, v, v]}, lambda s, v: {"loss": {"train": v, "val": v}},
     lambda s, v: {"time": 1, "m": {"step": {"value": s}, "loss": {"value": v}}}],
)  # fmt: skip
def test_a_row_with_lists_or_objects_is_a_row(tmp_path: Path, row: Callable[[int, float], object]) -> None:
    (tmp_path / "log").write_text("\n".join(json.dumps(row(s, v)) for s, v, _ in ROWS))
    [series, *_] = read_log(tmp_path / "log").losses.values()
    assert series.values.tolist() == LOSSES


def test_what_stands_under_losses_is_no_loss_by_that(tmp_path: Path) -> None:
    rows = [{"step": s, "losses/entropy": 0.5, "losses/lm_loss": v, "num_losses": 3} for s, v, _ in ROWS]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    log = read_log(tmp_path / "log")
    assert {name: series.values.tolist() for name, series in log.losses.items()} == {"train": LOSSES}
