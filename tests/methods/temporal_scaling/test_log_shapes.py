"""Logs by their shape: bars, tables without a name that is known, exports of trackers, rounded epochs, directories."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Chosen, read_log

STEPS = [10, 20, 30, 40]
LOSSES = [4.0, 3.5, 3.25, 3.125]
RATES = [0.4, 0.3, 0.2, 0.1]
ROWS = list(zip(STEPS, LOSSES, RATES, strict=True))
Write = Callable[[int, float, float], str]

PRINTED: dict[str, tuple[str, Write]] = {
    "MMEngine": ("", lambda s, v, r: f"01/01 10:00 - mmengine - INFO - Iter(train) [  {s}/40]  lr: {r}  loss: {v}"),
    "ColossalAI": ("", lambda s, v, r: f"[extension] Epoch 0: [{s}/40] Loss: {v}, LR: {r}"),
    "a bar, drawn twice": ("", lambda s, v, r: 2 * f"\r {s}%|##    | {s}/40 [00:10<01:00, 12.3it/s, loss={v}, lr={r}]"),
    "OLMo-core": ("", lambda s, v, r: f"INFO [step={s}/40,epoch=1]\n    train/CE loss={v}\n    optim/LR (group 0)={r}"),
    "DeepSpeed": ("", lambda s, v, r: f"[Rank 0] step={s}, skipped=0, lr=[{r}, 0.9], mom=[(0.9, 0.95)]\n"
                                      f" steps: {s} loss: {v} iter time (s): 0.5"),
    "verl": ("", lambda s, v, r: f"step:{s} - train/loss:{v} - train/lr(1e-3):{r} - train/time(s):1.2"),
    "how far it is, without a name": (
        "  val_loss_every: 4000\n  loss_freq: 10\n", lambda s, v, r: f"{s}/40 train_loss: {v} lr: {r} train_time: 0.8m"
    ),
    "the same behind the time": ("", lambda s, v, r: f"1776142723.{s} {s}/40 train_loss: {v} lr: {r}"),
    "thousands of steps": ("", lambda s, v, r: f"step: {s / 1000}k, loss: {v}, lr: {r}"),
    "columns in spaces": ("# step loss lr\n", lambda s, v, r: f"{s} {v} {r}"),
    "columns on the right": ("  step    loss  lr\n", lambda s, v, r: f"{s:6} {v:7.4f} {r}"),
    "MLflow": ("run_id,key,value,step,timestamp\n", lambda s, v, r: f"a,train_loss,{v},{s},1\na,lr,{r},{s},1"),
    "a long table with decimal commas": (
        "metric;step;value\n", lambda s, v, r: f"loss;{s};{v}\nlr;{s};{r}".replace(".", ",")
    ),
    "a path of its own": ("", lambda s, v, r: json.dumps({"data": {"step": s, "loss/out": v}, "optim": {"lr": r}})),
    "ms-swift": ("", lambda s, v, r: json.dumps({"loss": v, "learning_rate": r, "global_step/max_steps": f"{s}/40"})),
    "a total in the step": ("", lambda s, v, r: json.dumps({"loss": v, "lr": r, "step": f"{s} / 40"})),
}  # fmt: skip


@pytest.mark.parametrize("form", PRINTED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_row_at_a_time(tmp_path: Path, form: str, encoding: str) -> None:
    header, row = PRINTED[form]
    (tmp_path / "log").write_text(header + "\n".join(row(*each) for each in ROWS), encoding=encoding)
    log = read_log(tmp_path / "log")
    [(_, series)] = log.losses.items()
    assert series.steps.tolist() == STEPS
    assert series.values.tolist() == LOSSES
    assert log.rate is not None
    assert log.rate.values.tolist() == RATES
    told = form in ("MMEngine", "a bar, drawn twice", "OLMo-core", "ms-swift", "a total in the step",
                    "how far it is, without a name", "the same behind the time")  # fmt: skip
    assert log.horizon == (40 if told else None)


def test_tensorboard_exports_a_chart_whose_loss_is_called_value(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Wall time,Step,Value\n" + "".join(f"{1.7e9 + s},{s},{v}\n" for s, v, _ in ROWS))
    log = read_log(tmp_path / "log")
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == (STEPS, LOSSES)
    assert log.seconds_per_step == 1


EPOCHS = (
    "Epoch {e}: [{n}/20] loss: {v}",
    "Epoch: [{e}][ {n}/20]\tTime 0.5 ( 0.6)\tLoss {v} (9.9)",
    "\rEpoch {e}:  50%|##  | {n}/20 [00:01<00:01, 15.9it/s, v_num=0, train_loss={v}]",
)


@pytest.mark.parametrize("form", EPOCHS)
@pytest.mark.parametrize("first", [0, 1])
def test_steps_that_begin_anew_with_each_epoch_go_on(tmp_path: Path, form: str, first: int) -> None:
    lines = [form.format(e=first + (s - 1) // 20, n=(s - 1) % 20 + 1, v=v) for s, v, _ in ROWS]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == (STEPS, LOSSES)
    assert log.horizon is None  # the bar tells the length of an epoch
    assert not log.notes


def test_keras_prints_the_epoch_above_its_bar(tmp_path: Path) -> None:
    bar = "\r{n}/100 ━━━━ 12s 38ms/step - accuracy: 0.3 - loss: {v}"
    lines = [
        f"Epoch {k + 1}/4\n{bar.format(n=50, v=9)}{bar.format(n=100, v=v)} - val_loss: {v + 1}"
        for k, (_, v, _) in enumerate(ROWS)
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.unit == "epoch"
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == ([1, 2, 3, 4], LOSSES)
    assert log.losses["val"].values.tolist() == [v + 1 for v in LOSSES]


@pytest.mark.parametrize("epochs", [1.0, 3.0])
@pytest.mark.parametrize("first", [0, 100])
def test_epochs_rounded_to_two_places_are_spread(tmp_path: Path, epochs: float, first: int) -> None:
    """Hugging Face's Trainer prints 0.01 in row after row; half of the rows, or all but the last of each, were lost."""
    count = 1000
    true = epochs * np.arange(first + 1, count + 1) / count
    rows = [f"{{'loss': {5 - epoch / 10:.4f}, 'learning_rate': 0.1, 'epoch': {epoch:.2f}}}" for epoch in true]
    rows[450:450] = [f"{{'eval_loss': 4.5, 'eval_runtime': 1.0, 'epoch': {true[449]:.2f}}}"]
    (tmp_path / "log").write_text("\n".join(rows))
    log = read_log(tmp_path / "log")
    assert len(log.losses["train"]) == count - first
    np.testing.assert_allclose(log.losses["train"].steps, true, atol=0.0051)
    np.testing.assert_allclose(log.losses["val"].steps, true[449], atol=0.0051)
    assert log.losses["train"].steps[0] > 0


@pytest.mark.parametrize("first", [0, 1])
def test_rows_of_a_counted_epoch_are_so_far_into_it(tmp_path: Path, first: int) -> None:
    """A program that logs four times an epoch, and was stopped in the third one."""
    rows = [{"loss": 5 - k / 10, "epoch": first + k // 4} for k in range(10)]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    np.testing.assert_allclose(read_log(tmp_path / "log").losses["train"].steps, (np.arange(10) + 1) / 4)


def test_epochs_of_rows_that_do_not_share_one_stay(tmp_path: Path) -> None:
    rows = [{"loss": v, "epoch": k + 1.0} for k, v in enumerate(LOSSES)]
    both = [each for row in rows for each in (row, {"eval_loss": row["loss"] + 1, "epoch": row["epoch"]})]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, both)))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == log.losses["val"].steps.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["split", "phase", "mode"])
def test_a_column_says_which_set_a_loss_is_of(tmp_path: Path, name: str) -> None:
    """The rows of both stood in one series, in which the later one of a step won."""
    table = "".join(f"{s},train,{v}\n{s},validation,{v + 1}\n" for s, v, _ in ROWS)
    (tmp_path / "log").write_text(f"step,{name},loss\n{table}")
    log = read_log(tmp_path / "log")
    assert log.losses["train"].values.tolist() == LOSSES
    assert log.losses["val"].values.tolist() == [v + 1 for v in LOSSES]


def test_one_of_several_runs_in_a_chart_is_named(tmp_path: Path) -> None:
    header = '"Step","a - train/loss","a - train/loss__MIN","b - train/loss","b - train/loss__MIN"'
    (tmp_path / "log").write_text("\n".join([header, *(f'"{s}","{v}","1","{v + 1}","1"' for s, v, _ in ROWS)]))
    with pytest.raises(UserError, match=r"columns of 2 runs mixed: a, b .*--loss-column 'a - train/loss'"):
        read_log(tmp_path / "log")
    for run, more in (("a", 0), ("b", 1)):
        log = read_log(tmp_path / "log", Chosen(loss=f"{run} - train/loss"))
        [(_, series)] = log.losses.items()
        assert series.values.tolist() == [v + more for v in LOSSES]


def test_a_table_in_another_language_lists_its_columns(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Schritt;Verlust\n" + "".join(f"{s};{v}\n".replace(".", ",") for s, v, _ in ROWS))
    with pytest.raises(UserError, match=r"columns: Schritt, Verlust .*--step-column and --loss-column"):
        read_log(tmp_path / "log")
    log = read_log(tmp_path / "log", Chosen(step="schritt", loss="Verlust"))
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == (STEPS, LOSSES)


HOSTILE = ("10,4.0\n20,3.5\n30,3.0", '{"step": [1, [2]], "loss": [1, 2]}', "\ufeff\x1c", "\x1c\n", "a b\nc d")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_only_looks_like_one_of_these_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(UserError):
        read_log(tmp_path / "log")


@pytest.mark.parametrize("epoch", ["inf", "nan", "9e99", "1" + "0" * 40, "-inf", "-1"])
def test_an_epoch_that_is_none_moves_no_step(tmp_path: Path, epoch: str) -> None:
    (tmp_path / "log").write_text(f"Epoch 0: [1/2] loss: 3.0\nEpoch {epoch}: [2/2] loss: 2.0")
    assert read_log(tmp_path / "log").losses["train"].steps.tolist() == [1, 2]


def test_a_directory_of_a_logger_leads_to_the_log_below(tmp_path: Path) -> None:
    below = tmp_path / "lightning_logs" / "version_0"
    (below / "checkpoints").mkdir(parents=True)
    (below / "metrics.csv").write_text("step,train_loss\n" + "".join(f"{s},{v}\n" for s, v, _ in ROWS))
    for place in (tmp_path, tmp_path / "lightning_logs", below):
        log = read_log(place)
        assert (log.losses["train"].values.tolist(), log.name) == (LOSSES, str(below))
    other = tmp_path / "lightning_logs" / "version_1"
    other.mkdir()
    (other / "metrics.csv").write_text("step,train_loss\n1,2\n")
    with pytest.raises(UserError, match=r"2 directories in it hold logs \(name one of .*version_0, .*version_1\)"):
        read_log(tmp_path)
    deep = tmp_path / "a" / "b" / "c" / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "metrics.csv").write_text("step,train_loss\n1,2\n")
    with pytest.raises(UserError, match="holds no log"):
        read_log(tmp_path / "a")


def test_of_a_trainer_the_log_that_grows_is_read(tmp_path: Path) -> None:
    """LLaMA-Factory writes a row each time it logs; the state in the last checkpoint is older."""
    (tmp_path / "checkpoint-10").mkdir()
    state = {"log_history": [{"step": 10, "loss": 4.0}], "max_steps": 40}
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text(json.dumps(state))
    assert len(read_log(tmp_path).losses["train"]) == 1
    rows = [{"current_steps": s, "total_steps": 40, "loss": v, "lr": r} for s, v, r in ROWS]
    (tmp_path / "trainer_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_log(tmp_path).losses["train"].values.tolist() == LOSSES


def rated(path: Path, rate: np.ndarray) -> np.ndarray:
    """The rate that is read of a log that holds this one, as it is printed to four places."""
    rows = [{"step": 10 * k + 10, "loss": 3.0, "lr": f"{each:.4f}"} for k, each in enumerate(rate)]
    path.write_text("\n".join(map(json.dumps, rows)))
    log = read_log(path)
    assert log.rate is not None
    assert any("was rounded" in note for note in log.notes) == (log.rate.values.round(4) != log.rate.values).any()
    return log.rate.values


@pytest.mark.parametrize("peak", [3e-4, 1e-3])
@pytest.mark.parametrize("end", [0.0, 0.1])
def test_a_rate_that_was_rounded_goes_on_straight(tmp_path: Path, peak: float, end: float) -> None:
    """Composer's console prints 0.0003, 0.0002, 0.0001: a staircase that the forecast took for falls (3% off)."""
    done = np.linspace(0, 1, 200)
    cosine = peak * np.minimum(20 * done, end + (1 - end) * (1 + np.cos(np.pi * done)) / 2)
    found = rated(tmp_path / "log", cosine)
    after = done > 0.1
    rounded = np.abs(cosine.round(4) - cosine)[after].max()
    assert np.abs(found - cosine)[after].max() < 0.75 * rounded
    assert np.abs(found - cosine)[after].mean() < 0.4 * np.abs(cosine.round(4) - cosine)[after].mean()
    up_and_down = peak * np.concatenate([np.linspace(1, 0, 100), np.linspace(0, 1, 100)])
    assert np.abs(rated(tmp_path / "log", up_and_down) - up_and_down).max() < 0.1 * peak


def test_a_plateau_that_was_rounded_stays_one(tmp_path: Path) -> None:
    """Warm-up, stable, decay: nothing fell before the fall."""
    done = np.linspace(0, 1, 400)
    made = 3e-4 * np.minimum(1, (1 - done) / 0.3)
    found = rated(tmp_path / "log", made)
    np.testing.assert_allclose(found[done < 0.69], 3e-4)
    assert np.abs(found - made).max() < 0.03 * 3e-4


@pytest.mark.parametrize("every", [1, 5, 12])
def test_a_straight_fall_that_is_logged_seldom_was_not_rounded(tmp_path: Path, every: int) -> None:
    """It goes down by one amount from row to row, as two of our own runs do; its plateau was tilted."""
    made = 3e-3 * np.minimum(1, (1 - np.linspace(0, 1, 121)) / 0.4)[::every].round(4)
    np.testing.assert_array_equal(rated(tmp_path / "log", made), made.round(4))


@pytest.mark.parametrize(
    "levels",
    [[3], [3, 1], [3, 2, 1], [8, 4, 2, 1], [90, 89, 88, 87, 86]],
    ids=["constant", "one step", "two steps", "halves", "fine"],
)
def test_a_rate_that_goes_down_in_steps_of_its_own_stays(tmp_path: Path, levels: list[int]) -> None:
    made = np.repeat(np.array(levels) * 1e-4, 40)
    np.testing.assert_array_equal(rated(tmp_path / "log", made), made.round(4))
