"""Every log format, on samples made here, and logs that are none."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Log, read_log

STEPS = [10, 20, 30, 40]
LOSSES = [4.0, 3.5, 3.25, 3.125]


def read(path: Path, content: str | bytes) -> Log:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_log(path)


def check(log: Log, metric: str = "train", steps: list[int] = STEPS, losses: list[float] = LOSSES) -> None:
    assert log.losses[metric].steps.tolist() == steps
    np.testing.assert_allclose(log.losses[metric].values, losses, rtol=1e-6)


def jsonl(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_metrics_jsonl(tmp_path: Path) -> None:
    records = [
        {"schema": "llmtool.metrics/1", "step": step, "tokens": 1000 * step, "time": 2.0 * step, "lr": 0.1,
         "loss": loss, "grad_norm": 1.0, "tokens_per_s": 500.0,
         "eval": {"web": {"loss": loss + 1, "positions": [loss + 2, loss]}}}
        for step, loss in zip(STEPS, LOSSES, strict=True)
    ]  # fmt: skip
    log = read(tmp_path / "metrics.jsonl", jsonl(records))
    check(log)
    check(log, "web", losses=[loss + 1 for loss in LOSSES])
    assert log.positions["web"].values.tolist() == [[loss + 2, loss] for loss in LOSSES]
    assert (log.tokens_per_step, log.seconds_per_step) == (1000.0, 2.0)
    assert log.metric() == "web"
    assert log.rate is not None
    assert log.rate.values.tolist() == [0.1] * 4


@pytest.mark.parametrize("step", ["step", "iter", "global_step", "_step", "trainer/global_step"])
@pytest.mark.parametrize(
    ("name", "metric"),
    [("loss", "train"), ("train_loss", "train"), ("train/loss", "train"), ("val_loss", "val"), ("eval/loss", "val"),
     ("eval_loss", "val"), ("loss_ood", "ood"), ("validation_loss", "val"), ("eval/code/loss", "code")],
)  # fmt: skip
def test_aliases(tmp_path: Path, step: str, name: str, metric: str) -> None:
    records = [{step: s, name: loss, "accuracy": 0.5} for s, loss in zip(STEPS, LOSSES, strict=True)]
    log = read(tmp_path / "a.jsonl", jsonl(records))
    assert list(log.losses) == [metric]
    check(log, metric)


@pytest.mark.parametrize("name", ["per_position_loss_web", "pos_web", "positions_web"])
def test_positions(tmp_path: Path, name: str) -> None:
    log = read(tmp_path / "a.jsonl", jsonl([{"step": 1, name: [3.0, 2.0]}, {"step": 2, name: [2.0, 1.5]}]))
    assert log.positions["web"].values.tolist() == [[3.0, 2.0], [2.0, 1.5]]
    check(log, "web", [1, 2], [2.5, 1.75])


def test_nested_records_and_interleaved_rows(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    for step, loss in zip(STEPS, LOSSES, strict=True):
        records += [{"step": step, "train": {"loss": loss, "lr": 0.1}}, {"step": step - 1, "val": {"loss": loss + 1}}]
    log = read(tmp_path / "a.jsonl", jsonl(records))
    check(log)
    check(log, "val", [step - 1 for step in STEPS], [loss + 1 for loss in LOSSES])
    assert not log.notes


def test_restarts_the_last_wins_and_the_abandoned_branch_goes(tmp_path: Path) -> None:
    records = [{"step": s, "loss": 9.0} for s in (10, 20, 25, 30, 35)]
    records[0]["loss"] = 4.0
    records += [{"step": s, "loss": loss} for s, loss in zip(STEPS[1:], LOSSES[1:], strict=True)]
    log = read(tmp_path / "a.jsonl", jsonl(records))
    check(log)
    assert log.notes == ("1 restarts: the last run of each step counts",)


def test_nan_rows_go_and_are_counted(tmp_path: Path) -> None:
    lines = [f'{{"step": {s}, "loss": {loss}}}' for s, loss in zip(STEPS, LOSSES, strict=True)]
    lines.insert(1, '{"step": 15, "loss": NaN}')
    lines.insert(3, '{"step": 25, "loss": 0.0}')
    log = read(tmp_path / "a.jsonl", "\n".join(lines))
    check(log)
    assert "dropped 2 rows" in log.notes[0]


def test_a_last_line_cut_off_belongs_to_a_run_still_going_on(tmp_path: Path) -> None:
    check(
        read(tmp_path / "a.jsonl", jsonl([{"step": s, "loss": v} for s, v in zip(STEPS, LOSSES, strict=True)]) + '{"st')
    )


def test_rows_with_a_rate_and_no_loss_are_the_known_future(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"step": s, "loss": v, "lr": 1.0} for s, v in zip(STEPS, LOSSES, strict=True)]
    log = read(tmp_path / "a.jsonl", jsonl([*records, {"step": 50, "lr": 0.5}, {"step": 60, "lr": 0.1}]))
    check(log)
    assert log.rate is not None
    assert log.rate.steps.tolist() == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("indent", [None, 2])
def test_trainer_state(tmp_path: Path, indent: int | None) -> None:
    history: list[dict[str, Any]] = []
    for step, loss in zip(STEPS, LOSSES, strict=True):
        history.append({"epoch": 0.1, "learning_rate": 1e-4, "loss": loss, "step": step})
        history.append({"epoch": 0.1, "eval_loss": loss + 1, "eval_runtime": 3.0, "step": step})
    state = {"best_metric": None, "global_step": 40, "max_steps": 100, "log_history": history}
    assert read(tmp_path / "trainer_state.json", json.dumps(state, indent=indent)).horizon == 100
    history.append({"epoch": 1.0, "train_runtime": 10.0, "total_flos": 1e15, "step": 40})
    log = read(tmp_path / "trainer_state.json", json.dumps(state, indent=indent))
    check(log)
    check(log, "val", losses=[loss + 1 for loss in LOSSES])
    assert (log.horizon, log.ended) == (40, True)  # stopped early


def test_csv_and_tracker_export_with_gaps(tmp_path: Path) -> None:
    check(
        read(
            tmp_path / "a.csv", "step,lr,loss\n" + "".join(f"{s},0.1,{v}\n" for s, v in zip(STEPS, LOSSES, strict=True))
        )
    )
    header = (
        '"Step","my - run - train/loss","my - run - train/loss__MIN","my - run - train/loss__MAX","my - run - _step"\n'
    )
    body = "".join(f'"{s}","{v}","0","9","{s}"\n"{s + 5}","","","",""\n' for s, v in zip(STEPS, LOSSES, strict=True))
    check(read(tmp_path / "wandb.csv", header + body))
    check(read(tmp_path / "a.tsv", "global_step\tloss_ema\n10\t4\n20\t3.5\n30\t3.25\n40\t3.125\n"))


def test_compressed(tmp_path: Path) -> None:
    records = jsonl([{"step": s, "loss": v} for s, v in zip(STEPS, LOSSES, strict=True)])
    check(read(tmp_path / "log", gzip.compress(records.encode())))


def test_llm_c(tmp_path: Path) -> None:
    text = "s:0 tel:11.0\ns:0 eval:0.25\n" + "".join(
        f"s:{s} trl:{v} lr:6.00e-04 norm:1.2\n" for s, v in zip(STEPS, LOSSES, strict=True)
    )
    log = read(tmp_path / "main.log", text)
    check(log)
    check(log, "val", [0], [11.0])
    assert log.rate is not None
    assert log.rate.values.tolist() == [6e-4] * 4


def test_modded_nanogpt(tmp_path: Path) -> None:
    lines = [
        f"step:{s}/5625 val_loss:{v} train_time:{s * 50}ms step_avg:50.0ms" for s, v in zip(STEPS, LOSSES, strict=True)
    ]
    log = read(tmp_path / "run.txt", "import torch\nprint('code')\n" + "\n".join(lines))
    check(log, "val")
    assert log.horizon == 5625
    assert log.seconds_per_step == pytest.approx(0.05)


def test_nanogpt(tmp_path: Path) -> None:
    lines = []
    for s, v in zip(STEPS, LOSSES, strict=True):
        lines += [f"step {s}: train loss {v}, val loss {v + 1}", f"iter {s + 1}: loss {v + 2}, time 12.3ms, mfu 3.1%"]
    log = read(tmp_path / "out.txt", "\n".join(lines))
    check(log, "val", losses=[loss + 1 for loss in LOSSES])
    # One estimator, not two mixed: the batches' own losses, of which there are more in a real log.
    check(log, "train", [s + 1 for s in STEPS], [loss + 2 for loss in LOSSES])


def test_nanochat(tmp_path: Path) -> None:
    lines = ["Step 00000 | Validation bpb: 3.3"]
    for s, v in zip(STEPS, LOSSES, strict=True):
        lines.append(f"step {s:05d}/21400 (0.05%) | loss: {v} | grad norm: 0.5 | lrm: 0.75 | dt: 400.0ms | "
                     f"tok/sec: 1,300,000 | mfu: 48.0 | total time: {s / 60:.4f}m")  # fmt: skip
    log = read(tmp_path / "speedrun.log", "\n".join(lines))
    check(log)
    check(log, "val", [0], [3.3])
    assert log.horizon == 21400
    assert log.seconds_per_step == pytest.approx(1.0, rel=0.01)
    assert log.rate is not None
    assert log.rate.values.tolist() == [0.75] * 4


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def masked_crc(content: bytes) -> bytes:
    """CRC-32C bit by bit, masked as TensorFlow does."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + masked_crc(length) + event + masked_crc(event)


def scalar(step: int, tag: str, value: float, clock: float, *, tensor: bool) -> bytes:
    number = struct.pack("<f", value)
    held = message(8, b"\x08\x01" + message(4, number)) if tensor else b"\x15" + number
    summary = message(5, message(1, message(1, tag.encode()) + held))
    return record(b"\x09" + struct.pack("<d", clock) + b"\x10" + varint(step) + summary)


@pytest.mark.parametrize("tensor", [False, True])
def test_tensorboard_events(tmp_path: Path, tensor: bool) -> None:
    data = record(b"\x09" + struct.pack("<d", 1.0) + message(3, b"brain.Event:2"))
    for step, loss in zip(STEPS, LOSSES, strict=True):
        data += scalar(step, "train/loss", loss, 100.0 + step, tensor=tensor)
        data += scalar(step, "train/learning_rate", 0.25, 100.0 + step, tensor=tensor)
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "events.out.tfevents.1.host").write_bytes(data + data[:20])  # the last record is cut off
    log = read_log(directory)
    check(log)
    assert log.rate is not None
    assert log.rate.values.tolist() == [0.25] * 4
    assert log.seconds_per_step == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\x00\xff\xfe\x81binary", "neither text nor TensorBoard"),
        (b"once upon a time\n", "not a training log"),
        (b'{"step": 1, "accuracy": 0.5}\n', "has no loss column; columns: step, accuracy"),
        (b'{"accuracy": 1, "gain": 0.5}\n', "no row has a step and a loss; columns: accuracy, gain"),
        (b'{"step": 1, "lr": 0.5}\n', "no loss column"),
        (b'{"step": 1, "loss": NaN}\n', "NaN"),
        (b'{"step": 1, "loss": 2.0}\n{"step": 2,\n{"step": 3, "loss": 2.0}\n', ":2: not JSON"),
        (b'{\n "a": 1\n}', "without log_history"),
        (b"step,a - loss,b - loss\n1,2,3\n", "2 runs mixed"),
        (b"step,loss\n1,2,3\n", "3 cells under 2 columns"),
        (b"step,loss\n" + b"".join(b"%d,3.0\n" % (i * 7 % 50) for i in range(50)), "go back"),
        (b"step,loss\n" + b"".join(b"%d,3.0\n%d,4.0\n" % (i, i) for i in range(50)), "repeat 50 times"),
        (b'{"step": 1, "pos_a": [1.0, 2.0]}\n{"step": 2, "pos_a": [1.0, 2.0, 3.0]}\n', "2 to 3 positions"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path / "log", content)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_missing_file_and_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_log(tmp_path / "none")
    with pytest.raises(UserError, match="holds no log"):
        read_log(tmp_path)


def test_unknown_metric(tmp_path: Path) -> None:
    log = read(tmp_path / "a.jsonl", jsonl([{"step": 1, "loss": 2.0, "val_loss": 3.0}]))
    with pytest.raises(UserError, match="it holds train, val"):
        log.metric("code")
