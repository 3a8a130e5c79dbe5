"""Logs whose rows tell no step, tables without a header or in the course of other print, and rows that end a run."""

import json
import math
from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling import report
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs import Log, read_log
from llmtool.methods.temporal_scaling.run import prepare

EPOCHS = range(1, 41)
LOSSES = [round(4 + 20 / n, 4) for n in EPOCHS]


def read(path: Path, lines: list[str]) -> Log:
    path.write_text("\n".join(lines))
    return read_log(path)


@pytest.mark.parametrize("form", ["DETR", "CSV", "TSV with a tab at the end"])
def test_rows_without_a_step_are_counted(tmp_path: Path, form: str) -> None:
    """DETR's log.txt of old has no epoch in it."""
    rows = [{"train_lr": 1e-4, "train_loss": v, "train_loss_bbox": v / 9, "test_loss": v + 1} for v in LOSSES]
    lines = {
        "DETR": list(map(json.dumps, rows)),
        "CSV": [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)],
        "TSV with a tab at the end": [
            "\t".join(rows[0]) + "\t",
            *("\t".join(map(str, r.values())) + "\t" for r in rows),
        ],
    }
    log = read(tmp_path / "log", lines[form])
    assert (log.unit, log.metric(), log.horizon) == ("row", "train", None)
    assert log.losses["train"].steps.tolist() == list(EPOCHS)
    assert log.losses["train"].values.tolist() == LOSSES
    assert log.losses["val"].values.tolist() == [v + 1 for v in LOSSES]
    assert log.rate is not None
    assert any("no row tells its step: rows are counted, from 1" in note for note in log.notes)
    text = list(report.lines(forecast(prepare(log, horizon=60.0))))
    assert "fitted on rows 1.33 to 40 of 60 (67%)" in text[0]


def test_an_evaluation_between_rows_stands_where_it_was_logged(tmp_path: Path) -> None:
    rows = [each for n, v in zip(EPOCHS, LOSSES, strict=True) for each in
            [{"loss": v}, *[{"val_loss": v + 1}] * (n % 10 == 0)]]  # fmt: skip
    log = read(tmp_path / "log", list(map(json.dumps, rows)))
    assert log.losses["val"].steps.tolist() == [10, 20, 30, 40]


def test_what_has_neither_a_step_nor_a_loss_lists_its_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row has a step and a loss; columns: gain, length"):
        read(tmp_path / "log", [json.dumps({"gain": 1, "length": 2})] * 9)


def test_printed_losses_without_a_step_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"log:3: no line tells a step, .*'loss: 3.21 acc 0.4' .*`step 10 loss 3.2`"):
        read(tmp_path / "log", ["training", "", *(["  loss: 3.21 acc 0.4"] * 9)])


def test_rwkv(tmp_path: Path) -> None:
    row = "{e} {v:.6f} {p:.4f} {lr:.8f} 2025-04-24 02:23:42.481256 {e}"
    lines = ["NEW RUN 2025-04-24-02-18-52", "{'load_model': '0', 'lr_init': 0.0006}"]
    lines += [row.format(e=e, v=2 + 3 / (e + 1), p=math.exp(2 + 3 / (e + 1)), lr=6e-4 - 1e-6 * e) for e in range(30)]
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.losses["train"].steps.tolist()) == ("epoch", list(range(1, 31)))
    assert log.losses["train"].values.tolist() == [round(2 + 3 / (e + 1), 6) for e in range(30)]
    assert log.peak_rate == 6e-4
    other = [f"{e} 2.5 2.5 0.5 2025-04-24 02:23:42.481256 {e}" for e in range(30)]  # no perplexity of it
    with pytest.raises(UserError, match="not a training log that can be read"):
        read(tmp_path / "log", other)


@pytest.mark.parametrize(
    ("header", "row", "metrics"),
    [
        ("     Epoch   gpu_mem       box       obj       cls    labels  img_size",
         "     {e}/299     5.05G   {v:.5f}   0.03304         0         7      1280", ["box", "obj"]),
        ("      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size",
         "      {e}/299      2.2G      {v:.5f}      1.172      1.157         12        640", ["box", "cls", "dfl"]),
        ("epoch   train_loss   accuracy", "{e}      {v:.5f}   0.3", ["train"]),
    ],
)  # fmt: skip
def test_a_table_in_the_course_of_print(tmp_path: Path, header: str, row: str, metrics: list[str]) -> None:
    lines = ["hyperparameters: lr0=0.01, box=0.05", "", "    from  n    params  module", "  0    -1  1      1760  Conv"]
    for e in range(20):
        lines += ["", header]
        bars = [row.format(e=e, v=9.0), row.format(e=e, v=2 + 1 / (e + 1))]
        lines += [
            f"\r{text}: {n}%|████| {n}/213 [06:21<00:00,  1.79s/it]" for text, n in zip(bars, (50, 99), strict=True)
        ]
        lines += ["     Class     Images     Labels          P     R   mAP@.5: 100%|███| 27/27 [00:14<00:00]",
                  "       all       1061       2880      0.544       0.49      0.437      0.182"]  # fmt: skip
    log = read(tmp_path / "log", lines)
    assert (log.unit, list(log.losses)) == ("epoch", metrics)
    assert log.losses[metrics[0]].steps.tolist() == list(range(1, 21))
    assert log.losses[metrics[0]].values.tolist() == [round(2 + 1 / (e + 1), 5) for e in range(20)]
    assert log.horizon == (299 if "299" in row else None)


def rwkv(epoch: int, loss: float) -> str:
    return f"{epoch} {loss:.6f} {math.exp(loss):.4f} 0.00060000 2023-01-01 10:00:00.123456 {epoch}"


@pytest.mark.parametrize("bad", ["nan nan", "inf inf", "800.125000 inf"])
def test_rwkv_that_diverges_says_so(tmp_path: Path, bad: str) -> None:
    """The rows without a loss were no rows, and the run as good as before."""
    lines = ["NEW RUN 2023-01-01", "{'n_layer': 12}", *(rwkv(n, 3 + 1 / (n + 1)) for n in range(30))]
    lines += [f"{n} {bad} 0.00060000 2023-01-01 10:00:00.123456 {n}" for n in range(30, 35)]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == list(range(1, 36 if "800" in bad else 31))
    assert log.broken_from == (None if "800" in bad else 31)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_some_rows_among_others_are_no_table(tmp_path: Path, rows: int) -> None:
    lines = [f"step {n} loss {2 + 1 / n}" for n in range(1, 301)] + [rwkv(n, 5.0) for n in range(rows)]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].values.tolist() == [2 + 1 / n for n in range(1, 301)]


CLOSING = {
    "LLaMA-Factory": ({"current_steps": 1015, "total_steps": 1015, "percentage": 100.0}, True),
    "a step that plans more": ({"current_steps": 1015, "total_steps": 1015, "lr": 1e-5}, False),
    "a plan": ({"current_steps": 1015, "event": "next checkpoint"}, False),
    "short of its end": ({"current_steps": 1012, "total_steps": 1015, "percentage": 99.7}, False),
}


@pytest.mark.parametrize("form", CLOSING)
def test_a_row_that_reached_the_end_says_so(tmp_path: Path, form: str) -> None:
    row, ends = CLOSING[form]
    rows = [{"current_steps": n, "total_steps": 1015, "loss": 2 + n**-0.5} for n in range(100, 1001, 100)]
    log = read(tmp_path / "log", [*map(json.dumps, rows), json.dumps(row)])
    assert (log.horizon, log.ended, len(log.losses["train"])) == (1015, ends, 10)
    assert any("stands at step 1,015: the run has ended" in note for note in log.notes) == ends


@pytest.mark.parametrize("after", [False, True])
def test_the_row_that_closes_a_training_tells_its_end(tmp_path: Path, after: bool) -> None:
    rows = [f"{{'loss': {2 + n**-0.5:.4f}, 'epoch': {n / 100:.2f}}}" for n in range(10, 295, 10)]
    rows += ["{'train_runtime': 13.5, 'train_loss': 2.4, 'epoch': 3.0}"]
    rows += ["{'loss': 2.05, 'epoch': 3.1}"] * after
    log = read(tmp_path / "log", rows)
    assert (log.horizon, log.ended) == ((None, False) if after else (3, True))


@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("end", [0.32, 0.6, 2.93])
def test_a_training_may_end_within_an_epoch(tmp_path: Path, end: float, evaluated: bool) -> None:
    """It went on to the end of the first epoch, and a loss three times as far was told."""
    rows = [f"{{'loss': {2 + n**-0.5:.4f}, 'epoch': {end * n / 50:.3f}}}" for n in range(1, 51)]
    rows += [f"{{'train_runtime': 13.5, 'train_loss': 2.4, 'epoch': {end}}}"]
    rows += [f"{{'eval_loss': 2.5, 'epoch': {end}}}"] * evaluated
    log = read(tmp_path / "log", rows)
    assert (log.horizon, log.ended) == (end, True)
    assert prepare(log).finished


def test_a_run_that_was_stopped_early_has_ended(tmp_path: Path) -> None:
    """Its end was said in one line, and that of the plan forecast in the next one."""
    rows: list[dict[str, float]] = [
        {"loss": 2 + n**-0.5, "learning_rate": 3e-4, "step": n} for n in range(10, 2001, 10)
    ]
    state = {"log_history": [*rows, {"step": 2000, "train_loss": 3.1, "train_runtime": 5.0}], "max_steps": 6000}
    log = read(tmp_path / "trainer_state.json", [json.dumps(state)])
    assert (log.horizon, log.ended) == (2000, True)
    assert any("step 2,000: the run has ended (planned to 6,000)" in note for note in log.notes)
    run = prepare(log)
    assert (run.finished, run.horizon) == (True, 2000)


def test_a_row_far_ahead_of_the_losses_ends_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": n, "max_steps": 2000, "loss": 2 + n**-0.5} for n in range(10, 1491, 10)]
    log = read(tmp_path / "log", [json.dumps(each) for each in [*rows, {"step": 2000, "max_steps": 2000, "next": 1}]])
    assert (log.horizon, log.ended) == (2000, False)
