"""MLPerf's logs: what counts samples, what the file states of its end and of its learning rate."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.logs import Log, read_log

BATCH, EVERY, LAST = 8, 2, 400
STATED = {"opt_base_learning_rate": 8e-4, "opt_end_learning_rate": 8e-5, "opt_learning_rate_warmup_steps": 100,
          "opt_learning_rate_decay_steps": 900, "opt_learning_rate_decay_schedule": "cosine with linear warmup",
          "max_steps": 1000}  # fmt: skip


def line(key: str, value: object, **metadata: object) -> str:
    return (
        f"  0: :::MLLOG {json.dumps({'key': key, 'value': value, 'time_ms': 1_700_000_000_000, 'metadata': metadata})}"
    )


def loss(step: int) -> float:
    return round(3 + 10 / step, 4)


def write(path: Path, facts: dict[str, object], *, times: float = BATCH, block: int = LAST, stop: bool = False) -> Log:
    """A run that tells its training loss under `step`, times as many, anew in each block, and evaluates in between."""
    lines = [line("submission_benchmark", "llama31_8b"), line("global_batch_size", BATCH)]
    lines += [line(key, value) for key, value in facts.items()]
    for step in range(EVERY, LAST + 1, EVERY):
        at = ((step - 1) % block + 1) * times
        lines.append(line("tracked_stats", {"train_step_time": 0.5, "reduced_train_loss": loss(step)}, step=at))
        if step % 100 == 0:
            lines.append(line("eval_accuracy", loss(step) + 0.1, samples_count=step * BATCH))
    path.write_text("\n".join([*lines, line("run_stop", None, samples_count=LAST * BATCH)][: None if stop else -1]))
    return read_log(path)


def told(log: Log, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in log.notes)


@pytest.mark.parametrize("times", [1, BATCH])
def test_steps_that_count_samples_or_batches(tmp_path: Path, times: float) -> None:
    """3,456 rows of training were dropped without a word beside 18 evaluations."""
    log = write(tmp_path / "log", {}, times=times)
    steps = list(range(EVERY, LAST + 1, EVERY))
    assert log.losses["train"].steps.tolist() == steps
    assert log.losses["train"].values.tolist() == [loss(step) for step in steps]
    assert log.losses["val"].steps.tolist() == [100, 200, 300, 400]


def test_steps_of_a_block_are_left_out_and_told(tmp_path: Path) -> None:
    log = write(tmp_path / "log", {}, block=40)
    assert list(log.losses) == ["val"]
    assert told(log, "200 rows of reduced_train_loss left out")


def test_steps_without_a_count_of_samples_may_be_one(tmp_path: Path) -> None:
    rows = [line("tracked_stats", {"train_loss": loss(step)}, step=step * BATCH) for step in range(1, 30)]
    (tmp_path / "log").write_text("\n".join([line("global_batch_size", BATCH), *rows]))
    assert told(read_log(tmp_path / "log"), "steps may", "whole batches of 8")


def expected(steps: Sequence[float], shape: str) -> list[float]:
    done = np.maximum(np.array(steps) - 100, 0) / 900
    fallen = {"cosine": (1 - np.cos(np.pi * done)) / 2, "linear": done, "constant": 0 * done}[shape]
    return list(np.minimum(np.array(steps) / 100, 1) * 8e-4 - 7.2e-4 * fallen)


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_end_and_the_rate_that_it_states(tmp_path: Path, shape: str) -> None:
    log = write(tmp_path / "log", STATED | {"opt_learning_rate_decay_schedule": f"{shape} with linear warmup"})
    assert log.horizon == 1000
    assert told(log, "max_steps", "1,000")
    assert told(log, "opt_learning_rate_decay_schedule", shape)
    assert log.rate is not None
    assert log.rate.steps[-1] == 1000  # what is planned is known
    assert log.rate.values.tolist() == pytest.approx(expected(log.rate.steps.tolist(), shape))


def test_a_run_that_stopped_ends_there(tmp_path: Path) -> None:
    log = write(tmp_path / "log", STATED, stop=True)
    assert log.horizon == LAST
    assert told(log, "stopped at step 400", "max_steps planned 1,000")
    assert log.rate is not None
    assert log.rate.values.tolist() == pytest.approx(expected(log.rate.steps.tolist(), "cosine"))


@pytest.mark.parametrize("shape", [None, "as in the paper"])
def test_a_rate_whose_fall_is_not_stated_is_named(tmp_path: Path, shape: str | None) -> None:
    facts = {key: value for key, value in STATED.items() if key != "opt_learning_rate_decay_schedule"}
    log = write(tmp_path / "log", facts | ({"opt_learning_rate_decay_schedule": shape} if shape else {}))
    assert log.rate is None
    assert told(log, "--peak 0.0008 --end-lr 8e-05 --warmup 100 --horizon 1000", "--schedule")


def test_a_logged_rate_is_not_made_again(tmp_path: Path) -> None:
    lines = [line("global_batch_size", BATCH), *(line(key, value) for key, value in STATED.items())]
    lines += [line("train_loss", loss(step), samples_count=BATCH * step, lr=1e-4) for step in range(1, 30)]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log")
    assert log.rate is not None
    assert set(log.rate.values) == {1e-4}
