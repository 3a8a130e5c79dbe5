"""Logs as programs write them: each sample in its own form, with the steps, losses, rate and horizon it means."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Chosen, Log, read_log
from llmtool.methods.temporal_scaling.logs.names import meaning

STEPS = [10, 20, 30, 40]
LOSSES = [4.0, 3.5, 3.25, 3.125]
PAIRS = list(zip(STEPS, LOSSES, strict=True))
Write = Callable[[int, float], str]

LINES: dict[str, tuple[Write, dict[str, object]]] = {
    "torchtitan": (
        lambda s, v: f"[rank0]:2025-01-01 00:00:{s} - root - INFO - \x1b[31mstep: {s:2}\x1b[32m  loss: {v:7.4f}  "
        "\x1b[33mmemory: 41.1GiB(51.9%)  tps: 1,234  mfu: 10.1%\x1b[39m", {},
    ),
    "OLMo": (
        lambda s, v: f"[2024-03-01 00:00:00] INFO [olmo.train:916, rank=0] [step={s}/739328,epoch=0]\n"
        f"    optim/learning_rate_group0=0.0003\n    train/CrossEntropyLoss={v}\n    throughput/total_tokens={s * 100}",
        {"horizon": 739328, "rate": 3e-4, "tokens": 100},
    ),
    "Megatron-LM": (
        lambda s, v: f" [2025-01-01 00:00:00.1] iteration  {s:6}/    1000 | consumed samples: {s * 8} | elapsed time "
        "per iteration (ms): 123.4 | learning rate: 1.500000E-04 | global batch size: 8 | "
        f"lm loss: {v:.6E} | loss scale: 1.0 "
        "| grad norm: 1.2 | number of skipped iterations:   0 |", {"horizon": 1000, "rate": 1.5e-4},
    ),
    "nanotron": (
        lambda s, v: f"01/01/2025 00:00:00 [INFO|DP=0]: iteration: {s} / 1000 | consumed_tokens: {s}K | "
        f"elapsed_time_per_iteration_ms: 1.2K | global_batch_size: 1K | lm_loss: {v} | lr: 0.0003 | grad_norm: 1.0",
        {"horizon": 1000, "rate": 3e-4, "tokens": 1000},
    ),
    "litgpt": (
        lambda s, v: f"Epoch 1 | iter {s * 8} step {s} | loss train: {v}, val: n/a | iter time: 100.12 ms (step) "
        "remaining time: 0:01:00", {},
    ),
    "llama2.c": (lambda s, v: f"{s} | loss {v:.4f} | lr 5.0e-04 | 100.0ms | mfu 12.3%", {"rate": 5e-4}),
    "build-nanogpt": (lambda s, v: f"{s} train {v:.6f}", {}),
    "llm.c": (lambda s, v: f"s:{s} trl:{v} lr:6.00e-04 norm:1.2", {"rate": 6e-4}),
    "MaxText": (
        lambda s, v: f"completed step: {s}, seconds: 1.23, TFLOP/s/device: 100.1, Tokens/s/device: 9000.5, "
        f"total_weights: 65536, loss: {v}", {},
    ),
    "NeMo": (
        lambda s, v: f"Training epoch 0, iteration {s - 1}/999 | lr: 1.5e-07 | global_batch_size: 128 | "
        f"global_step: {s} | reduced_train_loss: {v} | train_step_timing in s: 2.1 | consumed_samples: 1280",
        {"rate": 1.5e-7, "horizon": 999},
    ),
    "fairseq": (
        lambda s, v: f'2024-01-01 00:00:00 | INFO | train_inner | {{"epoch": 1, "update": 0.1, "loss": "{v}", '
        f'"ppl": "16.1", "num_updates": "{s}", "lr": "0.0005", "gnorm": "0.6", "loss_scale": "4"}}', {"rate": 5e-4},
    ),
    "torchtune": (lambda s, v: f"Step {s} | loss:{v} lr:2e-05 tokens_per_second_per_gpu:1234.5", {"rate": 2e-5}),
    "a table of Markdown": (
        lambda s, v: f"| {v} | {s} | No log |", {"header": "| Loss | Step | Validation Loss |\n|---|:-:|---|"},
    ),
    "a notebook's table": (lambda s, v: f"{s}\t{v}\tNo log", {"header": "Step\tTraining Loss\tValidation Loss"}),
    "Lightning CSV": (
        lambda s, v: f"0,0.001,{s},,{v}",
        {"header": "epoch,lr-AdamW,step,train_loss_epoch,train_loss_step", "rate": 1e-3},
    ),
    "thousands": (lambda s, v: f'"{s * 100:,}","{v}"', {"header": "step,loss", "scale": 100}),
    "decimal commas": (lambda s, v: f"{s};{str(v).replace('.', ',')};0,001", {"header": "step;loss;lr", "rate": 1e-3}),
    "W&B export over global_step": (
        lambda s, v: f'"{s}","{v}","{v}","{v}"',
        {"header": '"train/global_step","a - train/loss","a - train/loss__MIN","a - train/loss__MAX"'},
    ),
    "tokens as the axis": (lambda s, v: f"{s},{v}", {"header": "tokens,loss", "unit": "tokens"}),
}  # fmt: skip
RECORDS: dict[str, tuple[Callable[[int, float], dict[str, object]], dict[str, object]]] = {
    "Composer": (
        lambda s, v: {"time/batch": s, "time/token": 5 * s, "loss/train/total": v, "lr-DecoupledAdamW/group0": 0.1,
                      "metrics/eval/LanguageCrossEntropy": v + 1}, {"rate": 0.1, "tokens": 5, "val": 1},
    ),
    "torchtitan": (
        lambda s, v: {"step": s, "loss_metrics/global_avg_loss": v, "loss_metrics/global_max_loss": v + 2,
                      "validation_metrics/loss": v + 1}, {"val": 1},
    ),
    "LLaMA-Factory": (
        lambda s, v: {"current_steps": s, "total_steps": 100, "loss": v, "lr": 5e-5, "epoch": 0.1,
                      "elapsed_time": f"0:00:{s}", "remaining_time": "0:10:00"},
        {"rate": 5e-5, "horizon": 100, "seconds": 1},
    ),
    "W&B of Hugging Face": (
        lambda s, v: {"_step": s // 10, "_runtime": 2.0 * s, "train/loss": v, "train/global_step": s,
                      "train/epoch": 0.1},
        {"seconds": 2},
    ),
    "iter before step": (lambda s, v: {"iter": 8 * s, "step": s, "loss": v}, {}),
    "step before iter": (lambda s, v: {"step": s, "iter": 8 * s, "loss": v}, {}),
    "OLMo's columns": (
        lambda s, v: {"step": s, "train/CrossEntropyLoss": v, "train/Perplexity": 9.0, "train/ZLoss": 1e-4,
                      "optim/learning_rate_group0": 0.1, "optim/learning_rate_group1": 0.1}, {"rate": 0.1},
    ),
    "perplexity alone": (lambda s, v: {"step": s, "train_ppl": float(np.exp(v))}, {}),
    "bits per byte": (lambda s, v: {"step": s, "train/bpb": v}, {}),
    "a best loss is no loss": (lambda s, v: {"step": s, "loss": v, "best_val_loss": 3.0, "loss_scale": 65536.0}, {}),
    "a clock beside": (
        lambda s, v: {"step": s, "loss": v, "lr": 0.1, "time": 3.0 * s}, {"rate": 0.1, "seconds": 3},
    ),
}  # fmt: skip


def check(log: Log, expected: dict[str, object]) -> None:
    scale = expected.get("scale", 1)
    assert isinstance(scale, int)
    assert log.losses["train"].steps.tolist() == [scale * step for step in STEPS]
    np.testing.assert_allclose(log.losses["train"].values, LOSSES, rtol=1e-6)
    assert (log.rate.values[0] if log.rate else None) == expected.get("rate")
    assert log.horizon == expected.get("horizon")
    assert log.tokens_per_step == expected.get("tokens", 1.0 if "unit" in expected else None)
    assert log.seconds_per_step == expected.get("seconds")
    assert log.unit == expected.get("unit", "step")
    if "val" in expected:
        np.testing.assert_allclose(log.losses["val"].values, np.array(LOSSES) + 1)


@pytest.mark.parametrize("form", LINES)
def test_lines(tmp_path: Path, form: str) -> None:
    line, expected = LINES[form]
    text = [str(expected["header"])] if "header" in expected else []
    (tmp_path / "log").write_text("\n".join([*text, *(line(*pair) for pair in PAIRS), ""]))
    check(read_log(tmp_path / "log"), expected)


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("whole", [False, True])
def test_records(tmp_path: Path, form: str, whole: bool) -> None:
    record, expected = RECORDS[form]
    rows = [record(*pair) for pair in PAIRS]
    text = json.dumps(rows) if whole else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "log").write_text(text)
    check(read_log(tmp_path / "log"), expected)


def test_hugging_face_prints_epochs_and_no_steps(tmp_path: Path) -> None:
    lines = [f"{{'loss': {v}, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': {s / 100}}}" for s, v in PAIRS]
    lines += ["{'eval_loss': 3.5, 'eval_runtime': 1.0, 'epoch': 0.4}",
              "{'train_runtime': 9.0, 'train_samples_per_second': 2.0, 'train_loss': 9.9, 'epoch': 0.4}"]  # fmt: skip
    (tmp_path / "log").write_text("\r".join(lines))
    log = read_log(tmp_path / "log")
    assert (log.unit, log.losses["train"].steps.tolist()) == ("epoch", [0.1, 0.2, 0.3, 0.4])
    assert log.losses["train"].values.tolist() == LOSSES
    assert log.losses["val"].values.tolist() == [3.5]


def test_keras_counts_epochs_from_zero(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "epoch,accuracy,loss,val_loss\n" + "".join(f"{i},0.5,{v},{v + 1}\n" for i, v in enumerate(LOSSES))
    )
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == [1, 2, 3, 4]


def test_the_closing_row_of_a_trainer_is_no_point(tmp_path: Path) -> None:
    history: list[dict[str, object]] = [{"loss": v, "learning_rate": 1e-4, "step": s, "epoch": 0.1} for s, v in PAIRS]
    history.append({"train_runtime": 9.0, "train_loss": 9.9, "total_flos": 1.0, "step": 41, "epoch": 1.0})
    (tmp_path / "log").write_text(json.dumps({"log_history": history, "max_steps": 41}, indent=1))
    log = read_log(tmp_path / "log")
    assert log.losses["train"].values.tolist() == LOSSES
    assert any("mean of the run" in note for note in log.notes)


def test_validation_lines_of_megatron_and_fairseq(tmp_path: Path) -> None:
    for text in (
        " validation loss at iteration {s} | lm loss value: {v}E+00 | lm loss PPL: 2.5E+01 |",
        "2024-01-01 | INFO | valid | epoch 001 | valid on 'valid' subset | loss {v} | ppl 20 | num_updates {s}",
    ):
        (tmp_path / "log").write_text("\n".join(text.format(s=s, v=v) for s, v in PAIRS))
        log = read_log(tmp_path / "log")
        assert list(log.losses) == ["val"]
        assert log.losses["val"].steps.tolist() == STEPS
        assert log.losses["val"].values.tolist() == LOSSES


def test_what_is_no_number_is_counted(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("step,loss\n10,4\n20,n/a\n30,[3]\n40,3\n")
    log = read_log(tmp_path / "log")
    assert log.losses["train"].steps.tolist() == [10, 40]
    assert log.notes == ("2 cells left out as no number, the first: loss 'n/a'",)


def test_a_name_that_meets_another_in_a_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(json.dumps({"iter": 8 * s, "step": s, "loss": v}) + "\n" for s, v in PAIRS))
    assert any("the log also counts 'iter'" in note for note in read_log(tmp_path / "log").notes)
    by_hand = read_log(tmp_path / "log", Chosen(step="iter"))
    assert by_hand.losses["train"].steps.tolist() == [8 * s for s in STEPS]


def test_columns_named_by_hand(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("t,objective,eta\n" + "".join(f"{s},{v},0.5\n" for s, v in PAIRS))
    check(read_log(tmp_path / "log", Chosen("t", "objective", "eta")), {"rate": 0.5})
    with pytest.raises(UserError, match="no column 'objektive'"):
        read_log(tmp_path / "log", Chosen("t", "objektive"))


def test_runs_in_one_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("run,step,loss\n" + "".join(f"{r},{s},{v}\n" for r in ("a", "b") for s, v in PAIRS))
    with pytest.raises(UserError, match=r"holds 2 runs \(a, b\)"):
        read_log(tmp_path / "log")


def test_tokens_of_a_batch_ramp_and_of_a_continued_run(tmp_path: Path) -> None:
    rows, tokens = [], 1e12
    for step in range(1, 101):
        tokens += 250e3 if step <= 50 else 1e6
        rows.append({"step": step, "loss": 3 + 1 / step, "tokens": tokens})
    (tmp_path / "log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = read_log(tmp_path / "log")
    assert log.tokens is not None
    assert log.tokens.at(50) == 1e12 + 12.5e6
    assert log.tokens.at(100) == 1e12 + 62.5e6
    assert log.tokens.at(200) == 1e12 + 162.5e6


@pytest.mark.parametrize(
    ("name", "metric"),
    [("lm loss validation", "val"), ("eval/c4_en-validation/CrossEntropyLoss", "c4_en"), ("Loss/val", "val"),
     ("valLoss", "val"), ("train/lm_loss", "train"), ("reduced_train_loss", "train"), ("dev_nll", "val")],
)  # fmt: skip
def test_words_of_a_loss(name: str, metric: str) -> None:
    held = meaning(name)
    assert held is not None
    assert (held.role, held.metric) == ("loss", metric)


@pytest.mark.parametrize(
    "name", ["grad_norm", "loss scale", "lr_decay_steps", "tokens_per_s", "aux_loss", "min_lr", "kl_loss"]
)
def test_words_of_nothing_that_matters(name: str) -> None:
    assert meaning(name) is None


def mllog(key: str, value: object, **metadata: object) -> str:
    """A line as MLPerf's logging prints it, behind the rank that a launcher puts first."""
    entry = {"namespace": "", "time_ms": 1_700_000_000_000 + 1000 * int(str(metadata.get("samples_count", 0))),
             "event_type": "POINT_IN_TIME", "key": key, "value": value,
             "metadata": {"file": "/workspace/callbacks.py", "lineno": 112, **metadata}}  # fmt: skip
    return f"0: :::MLLOG {json.dumps(entry)}"


def mlperf(benchmark: str, tmp_path: Path) -> Path:
    lines = [mllog("submission_benchmark", benchmark), mllog("global_batch_size", 8),
             mllog("max_sequence_length", 100), "Epoch 0: loss=9.9 step 3",
             mllog("tracked_stats", {"train_loss": 7.0}, step=5000)]  # fmt: skip
    for step in range(1, 41):
        lines.append(mllog("train_loss", 2 - step / 100, samples_count=8 * step, lr=4e-4))
        if step % 10 == 0:
            lines.append(mllog("eval_accuracy", 3 - step / 100, samples_count=8 * step))
    path = tmp_path / "log.txt"
    path.write_text("\n".join([*lines, mllog("run_stop", None, samples_count=320, status="success"), ":::MLLOG {"]))
    return path


def test_mlperf_logs(tmp_path: Path) -> None:
    held = read_log(mlperf("llama2_70b_lora", tmp_path))
    assert held.losses["train"].steps.tolist() == list(range(1, 41))
    assert held.losses["train"].values[-1] == pytest.approx(1.6)
    assert held.losses["val"].steps.tolist() == [10, 20, 30, 40]
    assert held.losses["val"].values.tolist() == pytest.approx([2.9, 2.8, 2.7, 2.6])
    assert held.rate is not None
    assert held.rate.values[0] == pytest.approx(4e-4)
    assert held.tokens is not None
    assert held.tokens.at(40) == 32_000
    assert held.seconds_per_step == pytest.approx(8)
    assert held.horizon == 40


def test_an_accuracy_is_no_loss(tmp_path: Path) -> None:
    assert set(read_log(mlperf("bert", tmp_path)).losses) == {"train"}
    only = tmp_path / "bert.txt"
    only.write_text(mllog("submission_benchmark", "bert") + "\n" + mllog("eval_accuracy", 0.72, epoch_num=1210432))
    with pytest.raises(UserError, match=r"no :::MLLOG line has a loss .* keys: submission_benchmark, eval_accuracy"):
        read_log(only)


def test_losses_inside_a_value(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    rows = [mllog("tracked_stats", {"train_loss": 3 - step / 10, "throughput": 7.0}, step=step) for step in range(8)]
    path.write_text("\n".join(rows))
    held = read_log(path)
    assert held.losses["train"].values.tolist() == pytest.approx([3 - step / 10 for step in range(8)])
    assert held.horizon is None
