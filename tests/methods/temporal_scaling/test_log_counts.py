"""What counts beside a loss, and to where: phases in brackets, epochs above steps, rows that were printed twice."""

from pathlib import Path

import pytest

from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs import Log, read_log
from llmtool.methods.temporal_scaling.run import prepare


def read(path: Path, lines: list[str]) -> Log:
    path.write_text("\n".join(lines))
    return read_log(path)


@pytest.mark.parametrize("mark", ["[ {phase} | {e:03d}/100 ] loss = {v}, acc = 0.3", "[{phase} {e}/100] loss: {v}"])
@pytest.mark.parametrize("held", ["Valid", "Val", "Test", "Eval"])
@pytest.mark.parametrize("trained", [True, False])
def test_a_phase_in_brackets(tmp_path: Path, mark: str, held: str, trained: bool) -> None:
    """The best one is printed again, and bars go on between."""
    lines = []
    for e in range(1, 30):
        lines += [f"\r{n}%|##  | {n}/132 [00:29<00:00,  4.42it/s]" for n in (50, 132)]
        lines += [mark.format(phase="Train", e=e, v=1 + 3 / e)] * trained
        lines += [mark.format(phase=held, e=e, v=2 + 3 / e) + best for best in ("", " -> best")]
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.horizon, list(log.losses)) == ("epoch", 100, ["train"] * trained + ["val"])
    for metric, least in (("train", 1), ("val", 2)):
        if metric in log.losses:
            assert log.losses[metric].steps.tolist() == list(range(1, 30))
            assert log.losses[metric].values.tolist() == [least + 3 / e for e in range(1, 30)]


@pytest.mark.parametrize(
    "line", ["Epoch {e} | Step {n}/6501 | loss {v}", "epoch: {e}, step: {n}/6501, loss: {v}",
             "INFO Epoch {e} Iter {n}/6501 loss {v}", "==== Epoch {e} ====\nstep {n}/6501 loss {v}"],
)  # fmt: skip
@pytest.mark.parametrize("first", [0, 1])
def test_the_first_of_an_unknown_number_of_epochs_tells_no_end(tmp_path: Path, line: str, first: int) -> None:
    """6501 steps were taken for the run, confidently; it went on for a second epoch of as many."""
    log = read(tmp_path / "log", [line.format(e=first, n=n, v=3 + 1 / n) for n in range(20, 3000, 20)])
    assert log.horizon is None
    assert any("6,501" in note and "--horizon" in note for note in log.notes)
    assert not forecast(prepare(log)).confident
    both = [line.format(e=first + e, n=n, v=3 + 1 / (6501 * e + n)) for e in (0, 1) for n in range(20, 6501, 20)]
    log = read(tmp_path / "log", both)
    assert log.losses["train"].steps[-1] == 6501 + 6500
    assert not any("--horizon" in note for note in log.notes)


@pytest.mark.parametrize(
    "line", ["Epoch {e}/1 | Step {n}/6501 | loss {v}", "[step={n}/6501,epoch={e}] loss={v}",
             "epoch {e} | global step {n}/6501 | loss {v}", "Epoch 0.{n} | step {n}/6501 | loss {v}"],
)  # fmt: skip
def test_a_total_of_the_run_beside_an_epoch_stays_one(tmp_path: Path, line: str) -> None:
    log = read(tmp_path / "log", [line.format(e=1, n=n, v=3 + 1 / n) for n in range(1000, 3000, 20)])
    assert (log.horizon, log.notes) == (6501, ())


def test_a_fraction_between_bars_is_a_part_of_the_epoch(tmp_path: Path) -> None:
    """As Demucs prints it, with a summary of each epoch, and several parts of each evaluation."""
    lines = []
    for e in range(1, 4):
        lines += [f"- Train | Epoch {e} | {n}/573 | 1.45 it/sec | Loss {4 - (e + n / 573) / 8:.4f} | Grad 0.12"
                  for n in (143, 286, 429, 572)]  # fmt: skip
        lines += [f"- Train Summary | Epoch {e} | Loss={4 - (e + 1) / 8:.4f} | Grad=0.0963"]
        lines += [f"- Valid | Epoch {e} | {n}/3 | 0.31 it/sec | Loss 9.0" for n in (1, 2)] * 2
        lines += [f"- Valid Summary | Epoch {e} | Loss={5 - e / 8:.4f}"]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == [573 * e + n for e in range(3) for n in (143, 286, 429, 572, 573)]
    assert log.losses["train"].values[-1] == 3.5
    assert log.losses["val"].steps.tolist() == [573, 1146, 1719]
    assert log.losses["val"].values.tolist() == [4.875, 4.75, 4.625]


def test_rows_alike_of_an_epoch_that_is_rounded_stay(tmp_path: Path) -> None:
    log = read(tmp_path / "log", [f"{{'loss': 0.5, 'epoch': {e / 100:.2f}}}" for e in range(1, 9) for _ in range(3)])
    assert len(log.losses["train"]) == 24
