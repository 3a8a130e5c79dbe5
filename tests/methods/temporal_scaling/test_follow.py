"""A log that grows while it is watched, and the alarms it raises."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmtool.commands.scaling import fit as command
from llmtool.commands.scaling.settings import FitSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import alarms, callbacks
from llmtool.methods.temporal_scaling.callbacks import Watcher, hugging_face, lightning
from llmtool.methods.temporal_scaling.logs import NotYetError, read_log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling.synthetic import HORIZON, log, rows, write_jsonl


class Stopped(Exception):
    """The test has seen enough."""


def growing(path: Path, records: list[dict[str, Any]], parts: int) -> Callable[[float], None]:
    """Writes the first part now, and one more each time the watcher sleeps."""
    size = -(-len(records) // parts)
    pieces: Iterator[list[dict[str, Any]]] = iter([records[at : at + size] for at in range(0, len(records), size)])
    write_jsonl(path, next(pieces))

    def sleep(_: float) -> None:
        with path.open("a") as file:
            if (piece := next(pieces, None)) is None:
                raise Stopped
            file.writelines(json.dumps(record) + "\n" for record in piece)

    return sleep


def watch(path: Path, sleep: Callable[[float], None], **settings: Any) -> int:
    asked = FitSettings(
        horizon=HORIZON, schedule="cosine", warmup=500.0, law="cooldown", follow=True, every=1.0, **settings
    )
    request = command.Request([str(path)], asked)
    return command.run(request, Console(), sleep=sleep)


def test_lines_appear_as_the_log_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    status = watch(path, growing(path, rows(log(every=400)), 5), max_predicted_loss=9.0)
    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert [line.split(":")[0] for line in lines] == [
        f"step {s:,} of 20,000" for s in (4000, 8000, 12000, 16000, 20000)
    ]
    assert all("P(above 9) 0.00" in line for line in lines)


def test_at_a_terminal_one_line_is_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    path = tmp_path / "run.jsonl"
    assert watch(path, growing(path, rows(log(every=400)), 5), max_predicted_loss=9.0) == 0
    out = capsys.readouterr().out
    shown = out.split("\r\x1b[K")[1:]
    assert len(shown) == 5
    assert out.count("\n") == 1
    assert out.endswith("\n")
    assert all(len(text.rstrip("\n")) < 60 for text in shown)


def test_a_bar_that_will_be_missed_stops_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, told = tmp_path / "run.jsonl", tmp_path / "told"
    script = tmp_path / "tell.sh"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> {told}\n')
    script.chmod(0o755)
    sleep = growing(path, rows(log(every=400)), 5)
    status = watch(path, sleep, max_predicted_loss=2.0, stop=True, notify=f"sh {script}")
    out = capsys.readouterr()
    assert status == 3
    assert len(out.out.splitlines()) == 1  # at the first look, at a fifth of the run
    assert "P(final loss > 2) = 1.00" in out.err
    assert told.read_text().strip().endswith("P(final loss > 2) = 1.00")


def test_divergence_and_a_broken_loss_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    records = rows(log(every=200))
    for record in records[70:]:
        record["loss"] *= 1.5
    for record in records[80:]:
        record["loss"] = float("nan")
    with pytest.raises(Stopped):
        watch(path, growing(path, records, 10))
    said = capsys.readouterr().err
    assert said.count("diverging: the last 5 losses are 4") == 1
    assert said.count("the loss is no number since step 16,200") == 1


def with_losses(change: Callable[[np.ndarray[Any, Any]], None]) -> Any:
    made = log(every=200)
    values = made.losses["train"].values.copy()
    change(values)
    return prepare(replace(made, losses={"train": Series(made.losses["train"].steps, values)}), until="50%")


def test_a_spike_is_none_of_the_noise() -> None:
    def spike(values: np.ndarray[Any, Any]) -> None:
        values[48] *= 1.2

    found = alarms.of_run(with_losses(spike))
    assert [(each.kind, each.step) for each in found] == [("spike", 9800.0)]
    assert alarms.of_run(with_losses(lambda values: None)) == []


def test_a_jump_of_the_rate_is_a_change_of_regime(tmp_path: Path) -> None:
    records = rows(log("constant", every=200))
    for record in records[45:]:
        record["lr"], record["loss"] = 3 * record["lr"], 1.2 * record["loss"]
    run = prepare(read_log(write_jsonl(tmp_path / "run.jsonl", records)), until="50%")
    assert alarms.of_run(run) == []


def test_odds_need_a_bar_and_following() -> None:
    for settings, says in (
        ({"stop": True}, "--stop"),
        ({"certainty": 0.9}, "--certainty"),
        ({"notify": "x"}, "--notify"),
    ):
        with pytest.raises(UserError, match=says):
            command.run(command.Request(["none"], FitSettings(**settings)), Console())


def test_a_watcher_stops_what_it_watches() -> None:
    said: list[str] = []
    watcher = Watcher(HORIZON, "cosine", warmup=500.0, every=30, bar=2.0, say=said.append)
    for record in rows(log(every=200))[:60]:
        watcher.record({"loss": record["loss"], "learning_rate": record["lr"]}, int(record["step"]))
    assert watcher.missed
    assert len(said) == 2
    assert said[1].startswith("step 12,000 of 20,000: final loss 2.")
    assert "P(above 2) 1.00" in said[1]


def test_the_callback_of_a_trainer() -> None:
    pytest.importorskip("transformers")
    from transformers import TrainerCallback, TrainerControl, TrainerState

    made = hugging_face(horizon=HORIZON, schedule="cosine", warmup=500.0, every=30, bar=2.0, stop=True, say=len)
    assert isinstance(made, TrainerCallback)
    control, state = TrainerControl(), TrainerState()
    for record in rows(log(every=200))[:60]:
        state.global_step = int(record["step"])
        made.on_log(None, state, control, logs={"loss": record["loss"], "learning_rate": record["lr"]})
    assert control.should_training_stop


def test_the_trainer_s_own_last_step_is_taken() -> None:
    """Nothing was given, and a cosine to zero at max_steps is told by the rates."""
    pytest.importorskip("transformers")
    from transformers import TrainerControl, TrainerState

    said: list[str] = []
    made = hugging_face(every=30, say=said.append)
    control, state = TrainerControl(), TrainerState()
    state.max_steps = int(HORIZON)
    for record in rows(log(every=200))[:60]:
        state.global_step = int(record["step"])
        made.on_log(None, state, control, logs={"loss": record["loss"], "learning_rate": record["lr"]})
    assert made.watcher.latest is not None
    assert made.watcher.latest.run.horizon == HORIZON
    assert "is a cosine to 10% of its peak so far" in made.watcher.latest.why
    assert said[-1].startswith("step 12,000 of 20,000: final loss 2.")


def test_a_refused_forecast_ends_no_training() -> None:
    said: list[str] = []
    watcher = Watcher(1.3 * HORIZON, every=10, say=said.append)
    for record in rows(log("cosine", every=200))[:60]:
        watcher.record({"loss": record["loss"], "lr": record["lr"]}, int(record["step"]))
    assert sum("no forecast: the learning rate is known to step" in text for text in said) == 1


def test_without_a_last_step_the_losses_ahead_are_told() -> None:
    said: list[str] = []
    watcher = Watcher(every=20, bar=2.0, say=said.append)
    watcher.planned(-1)
    watcher.planned(float("inf"))
    for record in rows(log("constant", every=200))[:60]:
        watcher.record({"loss": record["loss"], "lr": record["lr"]}, int(record["step"]))
    assert watcher.horizon is None
    assert said[-1].startswith("step 12,000: loss ")
    assert " at 24,000  NOT CONFIDENT" in said[-1]
    assert not watcher.missed


@pytest.fixture
def stub_of_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning is not installed here: its Callback is a base class without anything that ours needs."""
    package, module = ModuleType("lightning"), ModuleType("lightning.pytorch")
    module.Callback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)


@pytest.mark.usefixtures("stub_of_lightning")
def test_the_callback_of_lightning() -> None:
    said: list[str] = []
    callback = lightning(horizon=HORIZON, schedule="constant", bar=2.0, stop=True, every=20, say=said.append)
    trainer = SimpleNamespace(is_global_zero=True, global_step=0, should_stop=False, callback_metrics={})
    for record in rows(log("constant", every=200)):
        trainer.global_step = int(record["step"])
        trainer.callback_metrics = {"train_loss": record["loss"], "lr": record["lr"]}
        callback.on_train_batch_end(trainer, None, None, 0)
        if trainer.should_stop:
            break
    assert trainer.should_stop
    assert said
    assert "P(above 2)" in said[-1]


def test_a_law_that_cannot_be_written_ends_a_watch(tmp_path: Path) -> None:
    """It was told like a refused forecast, and the command ended well without its output."""
    path, place = tmp_path / "run.jsonl", tmp_path / "laws"
    place.mkdir()
    grow = growing(path, rows(log(every=400)), 5)

    def sleep(seconds: float) -> None:
        grow(seconds)
        if place.exists() and path.read_text().count("\n") > 25:
            shutil.rmtree(place)

    with pytest.raises(UserError, match="does not exist"):
        watch(path, sleep, output=place / "law.json", force=True)


def broken_off(records: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    return [{**record, "loss": float("nan")} if place >= at else record for place, record in enumerate(records)]


def test_a_run_that_broke_reaches_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It passed by the forecast of its last good rows."""
    path = write_jsonl(tmp_path / "run.jsonl", broken_off(rows(log(every=400)), 40))
    asked: dict[str, Any] = {
        "horizon": HORIZON,
        "schedule": "cosine",
        "warmup": 500.0,
        "law": "cooldown",
        "max_predicted_loss": 9.0,
    }
    assert command.run(command.Request([str(path)], FitSettings(**asked)), Console(-1)) == 3
    seen = FitSettings(**asked, fit_until="50%")  # of which nothing is broken
    assert command.run(command.Request([str(path)], seen), Console(-1)) == 0
    assert watch(path, lambda _: pytest.fail("waited"), max_predicted_loss=9.0, stop=True) == 3
    assert "P(final loss > 9) = 1.00" in capsys.readouterr().err
    watcher = Watcher(HORIZON, "cosine", warmup=500.0, every=50, bar=9.0, say=lambda _: None)
    for record in broken_off(rows(log(every=400)), 45):
        watcher.record({"loss": record["loss"], "learning_rate": record["lr"]}, int(record["step"]))
    assert watcher.missed


@pytest.mark.parametrize("mended", [True, False])
def test_one_row_without_a_number_is_waited_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mended: bool
) -> None:
    """It ended the run at once, whose next row was good again."""
    records = rows(log(every=400))
    for place in (30,) if mended else (30, 31):
        records[place]["loss"] = float("nan")
    size, path = 31, tmp_path / "run.jsonl"  # the first of them is the last row that is seen first
    write_jsonl(path, records[:size])
    coming = iter(records[size:])

    def sleep(_: float) -> None:
        with path.open("a") as file:
            if (record := next(coming, None)) is None:
                raise Stopped
            file.write(json.dumps(record) + "\n")

    status = watch(path, sleep, max_predicted_loss=9.0, stop=True)
    said = capsys.readouterr().err
    assert status == (0 if mended else 3)
    assert said.count("the loss is no number since step 12,400") == (not mended)
    watcher = Watcher(HORIZON, "cosine", warmup=500.0, every=31, bar=9.0, say=lambda _: None)
    for record in records[:size]:
        watcher.record({key: value for key, value in record.items() if key != "step"}, int(record["step"]))
    assert watcher.latest is not None
    assert not watcher.missed


def test_a_last_row_without_a_number_is_not_waited_out(tmp_path: Path) -> None:
    records = rows(log(every=400))
    records[-1]["loss"] = float("nan")
    path = write_jsonl(tmp_path / "run.jsonl", records)
    assert watch(path, lambda _: pytest.fail("waited"), max_predicted_loss=9.0, stop=True) == 3


def test_a_broken_log_that_does_not_grow_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "run.jsonl", broken_off(rows(log(every=400)), 40))
    looks = iter(range(4))

    def sleep(_: float) -> None:
        if next(looks) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        watch(path, sleep)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_last_row_short_of_the_horizon_ends_a_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows at 300, 600, ... 19,800 of 20,000: it waited for ever."""
    path = tmp_path / "run.jsonl"
    assert watch(path, growing(path, rows(log(every=300)), 3)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 19,800 of 20,000")


def test_a_log_that_is_to_come_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, records = tmp_path / "run.jsonl", rows(log(every=400))
    looks = iter(range(9))

    def sleep(_: float) -> None:
        if next(looks) == 2:
            write_jsonl(path, records)

    assert watch(path, sleep) == 0
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == 1
    assert out.err.count(f"waiting for {path}") == 1
    with pytest.raises(UserError, match="no such file"):
        watch(tmp_path / "wrong" / "run.jsonl", sleep)


def test_a_wrong_command_to_notify_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--notify tell 'me: no closing quotation"):
        watch(tmp_path / "none.jsonl", lambda _: pytest.fail("waited"), notify="tell 'me")


def test_a_callback_tells_each_alarm_once() -> None:
    said: list[str] = []
    watcher = Watcher(HORIZON, "cosine", warmup=500.0, every=2, say=said.append)
    for place, record in enumerate(rows(log(every=200))[:56]):
        loss = record["loss"] + (2 if place == 50 else 0)
        watcher.record({"loss": loss, "learning_rate": record["lr"]}, int(record["step"]))
    assert sum("spike at step 10,200" in text for text in said) == 1
    assert len(said) == 20


def test_forecasts_of_a_callback_grow_rarer_and_its_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after every 20 of 100,000 records made 5,000 forecasts, of ever longer logs."""
    made: list[int] = []

    def refuse(records: list[dict[str, Any]], *_: Any) -> None:
        made.append(len(records))
        raise NotYetError("not yet")

    monkeypatch.setattr(callbacks, "assemble", refuse)
    watcher = Watcher(100_000, every=20)
    for step in range(1, 100_001):
        watcher.record({"train_loss": 3.0} | ({"val_loss": 3.0} if step % 500 == 0 else {}), step)
    assert made[:4] == [20, 40, 60, 80]
    assert len(made) < 90
    assert max(made) <= len(watcher.records) + callbacks.MOST
    assert len(watcher.records) <= callbacks.MOST
    assert sum("val_loss" in record for record in watcher.records) == 200
    assert [record["step"] for record in watcher.records[-900:]] == list(range(99_101, 100_001))


@pytest.mark.usefixtures("stub_of_lightning")
def test_what_stands_in_lightning_s_metrics_is_measured_once() -> None:
    """An evaluation counted again with every batch until the next one, and four batches of a step as four steps."""
    callback = lightning(say=len)
    metrics = {"lr": 1.0}
    trainer = SimpleNamespace(is_global_zero=True, global_step=0, callback_metrics=metrics, sanity_checking=True)
    metrics["val_loss"] = 9.0
    callback.on_validation_end(trainer, None)
    trainer.sanity_checking = False
    metrics.clear()
    for batch in range(1, 41):
        trainer.global_step = batch // 2
        metrics |= {"lr": 1.0, "epoch": 0.0}
        if batch > 20:
            metrics["train_loss"] = 3.0 - batch / 100
        if batch in (20, 30):
            metrics["val_loss"] = 4.0 - batch / 100
            callback.on_validation_end(trainer, None)
        callback.on_train_batch_end(trainer, None, None, batch)
    records = callback.watcher.records
    assert [(each["step"], each["val_loss"]) for each in records if "val_loss" in each] == [(10, 3.8), (15, 3.7)]
    trained = [each["step"] for each in records if "train_loss" in each]
    assert trained == list(range(11, 21))
    assert all(each["lr"] == 1.0 for each in records)
