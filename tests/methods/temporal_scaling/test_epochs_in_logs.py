"""Logs that count steps anew in each epoch: none of them may take an epoch for the run."""

from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import report
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.logs.log import Log, assemble
from llmtool.methods.temporal_scaling.run import prepare

LENGTH = 30
WITH_TOTAL = {
    "bars of both": "  Epoch {e}/{epochs} | batch {n}/30 | loss {v}",
    "brackets": "Epoch [{e}/{epochs}], Step [{n}/30], Loss: {v} ",
    "columns": "Epoch:  {e}/{epochs} | Batch:   {n}/ 30 | LR: 2.97e-04 |Loss: {v} | Time: 266.5s",
    "dashes": "2019-06-11 13:45:02,441 epoch {e}/{epochs} - iter {n}/30 - loss {v}",
}
WITH_BAR = {
    "minimind": "Epoch:[{e}/{epochs}]({n}/30), loss: {v}, logits_loss: {v}, lr: 0.0005, epoch_time: 130.0min",
    "parentheses": "epoch {e}/{epochs} ({n}/30) loss {v}",
    "before a colon": "Epoch {e}/{epochs} ({n}/30): loss={v}",
    "a name before parentheses": "Epoch {e}/{epochs}, step ({n}/30), loss {v}",
    "bare": "Epoch {e}/{epochs} {n}/30 loss: {v}",
    "two brackets": "INFO Train: [{e}/{epochs}][{n}/30]\teta 0:01:00 lr 0.0001\tloss {v} ({v})\tgrad_norm 1.0 (2.0)",
}
"""What stands beside the epoch without a name is of the epoch."""
NO_TOTAL = {
    "MindSpore": "epoch: {e} step: {n}, loss is {v}",
    "Paddle": "Epoch {e}, Step {n}, total used time 7.17 (s), avg loss so far is {v}",
    "a record": '{{"epoch": {e}, "step": {n}, "loss": {v}}}',
}
NO_EPOCHS = {
    "torchvision": "Epoch: [{e}][{n}/30]\tTime  0.1 (0.2)\tLoss {v} ({v})\tAcc@1 1.0 (2.0)",
    "timm": "Train: {e} [{n:>4}/30 ( 25%)]  Loss: {v} ({v})  Time: 0.1s LR: 1.0e-3",
    "Flair": "2019-06-11 13:45:02,441 epoch {e} - iter {n}/30 - loss {v}",
    "DLLogger": 'DLLL {{"timestamp": "1.5", "type": "LOG", "step": [{e}, {n}, 30], "data": {{"train_loss": {v}}}}}',
}


def write(path: Path, form: str, ended: int = 4, epochs: int = 10, first: int = 1, every: int = 10) -> Log:
    lines = [
        form.format(e=first + k, n=n, v=round(3 + 2 / (k * LENGTH + n), 4), epochs=epochs)
        for k in range(ended)
        for n in range(every, LENGTH + 1, every)
    ]
    path.write_text("\n".join(lines))
    return read_log(path)


def expected(ended: int = 4, every: int = 10) -> list[int]:
    return [k * LENGTH + n for k in range(ended) for n in range(every, LENGTH + 1, every)]


@pytest.mark.parametrize("form", [*WITH_TOTAL, *WITH_BAR, *NO_TOTAL, *NO_EPOCHS])
@pytest.mark.parametrize("first", [0, 1])
def test_epochs_count_on(tmp_path: Path, form: str, first: int) -> None:
    log = write(tmp_path / "log", (WITH_TOTAL | WITH_BAR | NO_TOTAL | NO_EPOCHS)[form], first=first)
    assert log.losses["train"].steps.tolist() == expected()
    assert log.losses["train"].values.tolist() == [round(3 + 2 / n, 4) for n in expected()]
    assert log.horizon == (10 * LENGTH if form in WITH_TOTAL | WITH_BAR else None)
    assert any("of 30 steps as it seems" in note for note in log.notes) == (form in NO_TOTAL)


@pytest.mark.parametrize("form", WITH_TOTAL)
def test_the_first_epoch_is_not_the_run(tmp_path: Path, form: str) -> None:
    """Batch 30 of 30 in epoch 1 of 10 was the end of the run, confidently."""
    log = write(tmp_path / "log", WITH_TOTAL[form], ended=1, every=3)
    assert log.horizon == 10 * LENGTH
    assert not forecast(prepare(log)).run.finished
    begun = write(tmp_path / "log", WITH_TOTAL[form].replace("{n}", "1"), ended=1, every=15)
    assert begun.horizon is None  # nothing tells yet whether 30 is the length of an epoch or of the run


@pytest.mark.parametrize("form", WITH_BAR)
def test_one_epoch_is_the_run_where_there_is_but_one(tmp_path: Path, form: str) -> None:
    """`Epoch:[1/1](10/39695)` was refused: all rows were of epoch 1."""
    log = write(tmp_path / "log", WITH_BAR[form], ended=1, epochs=1)
    assert log.losses["train"].steps.tolist() == [10, 20, 30]
    assert log.horizon == LENGTH
    assert write(tmp_path / "log", WITH_BAR[form], ended=1, epochs=4).horizon == 4 * LENGTH


def test_a_step_that_goes_on_beside_epochs_is_that_of_the_run(tmp_path: Path) -> None:
    lines = [f"epoch {1 + n // 30}/10 | step {n}/300 | loss {3 + 1 / n}" for n in range(5, 200, 5)]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == list(range(5, 200, 5))
    assert log.horizon == 300


def test_the_total_belongs_to_the_count_beside_it(tmp_path: Path) -> None:
    """36 steps an epoch were taken for the end of a run at global step 1,000,025."""
    lines = []
    for n in range(1, 80):
        lines += ["", f"   --> STEP: {n % 36}/36 -- GLOBAL_STEP: {1_000_000 + 25 * n}", f"     | > loss: {3 + 1 / n}",
                  *[f" > EPOCH: {k}/1000" for k in [n // 36] if n % 36 == 35]]  # fmt: skip
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == [1_000_000 + 25 * n for n in range(1, 80)]
    assert log.horizon is None
    assert not forecast(prepare(log)).confident


@pytest.mark.parametrize("name", ["Train", "Val", "train", "loss"])
@pytest.mark.parametrize("share", ["7%", "100%", "0.5%"])
def test_how_far_a_bar_is_is_no_loss(tmp_path: Path, name: str, share: str) -> None:
    lines = [
        f"{name}:  {share}|▊    | 4{n}/581 [01:00<02:00]\n{{'step': {n}, 'loss': {3 + 1 / n}}}" for n in range(1, 30)
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert list(log.losses) == ["train"]
    assert log.losses["train"].values.tolist() == [3 + 1 / n for n in range(1, 30)]


def test_bars_without_a_count_of_epochs(tmp_path: Path) -> None:
    bar = "Training:  10%|####      | {n}/30 [00:10<01:10,  2.6it/s, loss={v}]"
    log = write(tmp_path / "log", bar)
    assert log.losses["train"].steps.tolist() == expected()
    assert log.horizon is None
    assert write(tmp_path / "log", bar, ended=1).horizon == LENGTH
    # Begun again in the middle, it is a restart.
    (tmp_path / "log").write_text("\n".join(bar.format(n=n, v=3 + 1 / n) for n in (3, 6, 9, 12, 3, 6, 9, 12, 15)))
    assert read_log(tmp_path / "log").losses["train"].steps.tolist() == [3, 6, 9, 12, 15]


@pytest.mark.parametrize(
    "header",
    [
        "epoch   {e}",
        "==== Epoch {e}/9 ====",
        " > EPOCH: {e}/9",
        "Epoch {e} of 9:",
        "2025-09-16 12:03:31,659 - INFO - Epoch {e}/9",
    ],
)
def test_an_epoch_that_stands_above_its_rows(tmp_path: Path, header: str) -> None:
    lines = [
        text for e in (1, 2, 3) for text in (header.format(e=e), *(f"step {n}/20 loss {3 - e / n}" for n in (10, 20)))
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == [10, 20, 30, 40, 50, 60]
    assert log.horizon == (None if "/" not in header and "of" not in header else 180)


def test_an_epoch_above_a_line_of_its_loss(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(f"epoch   {e}\nloss: {3 + 1 / e}\ntest accuracy: 20%" for e in range(1, 9)))
    log = read_log(tmp_path / "log")
    assert (log.unit, log.losses["train"].steps.tolist()) == ("epoch", list(range(1, 9)))


def test_a_row_of_an_epoch_stands_at_its_end() -> None:
    rows = [{"epoch": e, "step": n, "loss": 3.0 + 1 / (e + 1)} for e in range(3) for n in (10, 20, 30)]
    rows += [{"epoch": e, "val_loss": 3.5} for e in range(3)]
    log = assemble(sorted(rows, key=lambda row: row["epoch"]), "rows")
    assert log.losses["val"].steps.tolist() == [30, 60, 90]


def test_one_step_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(f"epoch: {e} step: 1875, loss is {3 + 1 / e}" for e in range(1, 9)))
    assert read_log(tmp_path / "log").losses["train"].steps.tolist() == [1875 * e for e in range(1, 9)]


def test_epochs_that_fall_back_are_a_restart() -> None:
    rows = [{"epoch": e, "step": 30 * e + n, "loss": 3.0} for e in (0, 1, 1, 2) for n in (10, 20, 30)]
    log = assemble(rows, "rows")
    assert log.losses["train"].steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert any("restart" in note for note in log.notes)


def test_marian() -> None:
    text = (
        "[2019-04-26 01:51:08] Ep. 1 : Up. {n} : Sen. 435,566 : Cost {v} : Time 9.1s : 6820.08 words/s : L.r. 1.25e-05"
    )
    from llmtool.methods.temporal_scaling.logs import stdout

    log = assemble(stdout.read("\n".join(text.format(n=n, v=3 + 1 / n) for n in (500, 1000, 1500)), "log")[0], "log")
    assert log.losses["train"].steps.tolist() == [500, 1000, 1500]
    assert log.peak_rate == 1.25e-5


@pytest.mark.parametrize("name", ["token_acc", "mean_token_accuracy", "tokens_per_second", "max_tokens"])
def test_what_is_no_count_of_tokens(name: str) -> None:
    log = assemble([{"epoch": n / 10, "loss": 3.0 + 1 / n, name: 0.6 + n / 100} for n in range(1, 12)], "rows")
    assert (log.unit, log.tokens) == ("epoch", None)


def test_a_total_in_the_name_of_a_printed_step(tmp_path: Path) -> None:
    lines = [f"{{'loss': {3 + 1 / n}, 'epoch': {n / 900}, 'global_step/max_steps': '{n}/581'}}" for n in range(1, 40)]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == list(range(1, 40))
    assert log.horizon == 581


def test_what_was_dropped_is_counted_by_row() -> None:
    rows = [{"step": n, "train/cls_loss": 0.0, "val/cls_loss": 0.0, "train/loss": 3.0 + 1 / n} for n in range(1, 20)]
    assert not assemble(rows, "rows").notes
    rows[3] |= {"train/loss": float("nan"), "val/loss": float("nan")}
    assert "dropped 1 row whose step or loss is not a positive number" in assemble(rows, "rows").notes
    with pytest.raises(UserError, match="every loss in it is NaN or not positive"):
        assemble([{"step": n, "loss": 0.0} for n in range(9)], "rows")


def test_runs_one_after_the_other_are_refused(tmp_path: Path) -> None:
    lines = [f"Epoch {e}/8 - loss: {3 + k + 1 / e}" for k in range(3) for e in range(1, 9)]
    (tmp_path / "log").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"holds 3 runs, one after the other \(Epoch 8 of 8 is followed by 1\)"):
        read_log(tmp_path / "log")
    (tmp_path / "log").write_text("\n".join(lines[:5] + lines[:8]))  # one that was broken off, and begun again
    assert read_log(tmp_path / "log").losses["train"].steps.tolist() == list(range(1, 9))


def test_small_losses_keep_their_digits(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": 2e-4 + 1e-3 / n} for n in range(1, 60)]
    text = list(report.lines(forecast(prepare(assemble(rows, "rows"), horizon=90.0))))
    assert text[1].split()[2].startswith("0.0002")
    assert "0.0000" not in text[1]


def test_espnet(tmp_path: Path) -> None:
    text = ("[host] 2023-01-01 00:00:00,000 (trainer:760) INFO: {e}epoch:train:{a}-{b}batch: iter_time=1.4e-04, "
            "forward_time=0.1, loss_ctc=80.1, loss={v}, acc=0.2, optim0_lr0={lr}, train_time=1.5")  # fmt: skip
    lines = [text.format(e=e, a=b - 9, b=b, v=3 + 1 / (20 * e + b), lr=1e-3) for e in (1, 2, 3) for b in (10, 20)]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == [10, 20, 30, 40, 50, 60]
    assert log.losses["train"].values.tolist() == [3 + 1 / (20 * e + b) for e in (1, 2, 3) for b in (10, 20)]
    assert log.peak_rate == 1e-3


def test_spacy(tmp_path: Path) -> None:
    head = (
        "E    #       LOSS TRANS...  LOSS NER  ENTS_F  SCORE \n---  ------  -------------  --------  ------  ------\n"
    )
    rows = [
        f"{n // 300:>3}  {n:>6}  {100 + 1e4 / n:>13.2f}  {50.0:>8.2f}  {17.55:>6.2f}  {0.5:>6.2f}"
        for n in range(200, 3000, 200)
    ]
    (tmp_path / "log").write_text(head + "\n".join(rows))
    log = read_log(tmp_path / "log")
    assert log.losses["trans"].steps.tolist() == list(range(200, 3000, 200))
    assert log.losses["trans"].values[0] == 150
    assert log.losses["ner"].values[0] == 50


@pytest.mark.parametrize("form", [*WITH_TOTAL, *WITH_BAR, *NO_TOTAL, *NO_EPOCHS])
def test_a_crash_within_an_epoch_is_a_restart(tmp_path: Path, form: str) -> None:
    """Of three epochs, the second was broken off and begun again: its end was told as that of the run."""
    text = (WITH_TOTAL | WITH_BAR | NO_TOTAL | NO_EPOCHS)[form]
    places = [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20), (2, 10), (2, 20), (2, 30), (3, 10), (3, 20), (3, 30)]
    lines = [text.format(e=e, n=n, v=3 + 1 / (30 * e + n), epochs=10) for e, n in places]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == expected(3)
    assert log.horizon == (10 * LENGTH if form in WITH_TOTAL | WITH_BAR else None)


def test_the_total_of_a_count_that_never_meets_the_axis_is_not_its_own(tmp_path: Path) -> None:
    lines = [f"batch: {n % 36}/36, lr: 1e-3\nstep: {25 * n}, loss: {3 + 1 / n}" for n in range(1, 60)]
    (tmp_path / "log").write_text("\n".join(lines))
    assert read_log(tmp_path / "log").horizon is None


def test_a_closing_row_and_a_longer_run_are_no_other_runs() -> None:
    rows = [{"step": n, "step /total": 100, "loss": 3 + 1 / n} for n in range(10, 101, 10)]
    assert assemble([*rows, {"step": 0, "step /total": 100, "val loss": 3.0}], "rows").horizon == 100
    longer = [{"step": n, "step /total": 200, "loss": 3 + 1 / n} for n in range(10, 201, 10)]
    log = assemble([*rows, *longer], "rows")
    assert (log.horizon, log.losses["train"].steps[-1]) == (200, 200)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_axis_without_a_number_is_refused(value: float) -> None:
    with pytest.raises(UserError):
        assemble([{"epoch": value, "loss": 3.0 + 1 / n} for n in range(1, 9)], "rows")


@pytest.mark.parametrize(
    "bar", ["Test: [{n}/242]", "Validation: 100%|###| {n}/56 [00:10<01:10, ", "2025-01-01 INFO Testing [{n}/9]"]
)
def test_bars_of_an_evaluation_are_no_steps(tmp_path: Path, bar: str) -> None:
    lines = []
    for e in range(3):
        lines += [f"Epoch: [{e}][{n}/30] Loss {3 + 1 / (30 * e + n)}" for n in (10, 20, 30)]
        lines += [bar.format(n=n) + " Loss 9.0" for n in (1, 2)]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == expected(3)
    assert log.losses["train"].values.max() < 9


def test_an_estimator_s_evaluation_is_no_row_of_training(tmp_path: Path) -> None:
    lines = [f"loss = {3 + 1 / n}, step = {n}" for n in range(100, 1000, 100)]
    lines += ["Saving dict for global step 1000: eval_accuracy = 0.8, eval_loss = 5.0, global_step = 1000, loss = 5.0"]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].values.max() < 5
    assert log.losses["val"].values.tolist() == [5.0]


def test_the_total_of_micro_batches_is_not_that_of_steps(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(f"step {n} batch {8 * n}/5000 loss {3 + 1 / n}" for n in range(1, 60)))
    log = read_log(tmp_path / "log")
    assert (log.columns["step"], log.horizon) == ("step", None)
