"""`[ Train | 001/100 ]` counts epochs, `epoch 1 [Train 20/1000]` steps of one, `[Train 20/5000]` those of the run."""

from pathlib import Path

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.logs import Log, read_log


def read(path: Path, lines: list[str]) -> Log:
    path.write_text("\n".join(lines))
    return read_log(path)


def loss(step: float) -> float:
    return float(round(2 + 3 * (step + 1) ** -0.5, 4))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("again", [0, 11])
def test_epochs(tmp_path: Path, twice: bool, every: int, again: int) -> None:
    lines = []
    for n in [*range(1, again + 10), *range(again or 10, 31)]:
        lines += [f"[ Train | {n:03d}/040 ] loss = {loss(n)}, acc = 0.5"]
        lines += [f"[ Valid | {n:03d}/040 ] loss = {loss(n) + 1:.4f}, epoch time 35 s"] * (1 + twice) * (n % every == 0)
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.horizon) == ("epoch", 40)
    assert log.losses["train"].values.tolist() == [loss(n) for n in range(1, 31)]
    assert log.losses["val"].steps.tolist() == list(range(every, 31, every))


FORMS = ["epoch {e} [Train {n}/1000] loss: {v}", "Epoch: {e} [ Train | {n}/1000 ] loss: {v} lr: 3.0e-4"]


@pytest.mark.parametrize("form", [*FORMS, "Epoch {e}/9\n[Train {n}/1000] loss: {v}"])
@pytest.mark.parametrize("evaluated", [False, True])
def test_steps_of_an_epoch(tmp_path: Path, form: str, evaluated: bool) -> None:
    """1000 was the number of epochs, and so the end of the run; or 50, where an evaluation had so many batches."""
    lines = []
    for e in range(1, 7):
        lines += [form.format(e=e, n=n, v=loss(1000 * e - 1000 + n)) for n in range(20, 1001, 20)]
        if evaluated and "\n" not in form:
            epoch = form.partition("[")[0].format(e=e)
            lines += [f"{epoch}[Val {n}/50] loss: {loss(1000 * e) + n / 1000}" for n in range(10, 51, 10)]
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.horizon) == ("step", 9000 if "/9" in form else None)
    assert log.losses["train"].steps.tolist() == list(range(20, 6001, 20))
    assert log.losses["train"].values.tolist() == [loss(n) for n in range(20, 6001, 20)]
    if len(log.losses) > 1:
        assert log.losses["val"].steps.tolist() == list(range(1000, 6001, 1000))
        np.testing.assert_allclose(log.losses["val"].values, [loss(1000 * e) + 0.05 for e in range(1, 7)])
    assert (len(log.losses) > 1) == (evaluated and "\n" not in form)


@pytest.mark.parametrize("evaluated", [False, True])
def test_steps_of_a_run(tmp_path: Path, evaluated: bool) -> None:
    lines = []
    for n in range(10, 3001, 10):
        lines += [f"[train {n}/5000] loss: {loss(n)} lr: 6.6e-05"]
        lines += [f"[valid {k}/50] loss: {loss(n)}" for k in range(10, 51, 10)] * (evaluated and n % 500 == 0)
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.horizon) == ("step", 5000)
    assert log.losses["train"].steps.tolist() == list(range(10, 3001, 10))
    assert log.losses["train"].values.tolist() == [loss(n) for n in range(10, 3001, 10)]
