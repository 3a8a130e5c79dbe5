"""Ranks of one run in one log are one run; two runs in one log are two."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Log, read_log
from llmtool.methods.temporal_scaling.logs.log import assemble

STEPS = list(range(10, 1010, 10))
COURSE = 2 + np.array(STEPS) ** -0.5
RATES = 1e-3 * (1 - np.array(STEPS) / 2000)


def rows(ranks: int, sd: float, seed: int = 0) -> np.ndarray:
    """Losses by step and rank [steps, ranks], printed to five places."""
    noise = np.random.default_rng(seed).normal(0, sd, (len(STEPS), ranks))
    return (COURSE[:, None] * np.exp(noise)).round(5)


def read(path: Path, lines: list[str]) -> Log:
    path.write_text("\n".join(lines))
    return read_log(path)


PREFIXES: dict[str, Callable[[int], str]] = {
    "torchrun": lambda rank: f"[rank{rank}]: ",
    "torchrun by node": lambda rank: f"[default{rank}]:",
    "srun": lambda rank: f"{rank}: ",
    "srun, aligned": lambda rank: f" {rank}: ",
    "mpirun": lambda rank: f"[1,{rank}]<stdout>:",
    "by hand": lambda rank: f"[GPU{rank}] ",
    "behind a date": lambda rank: f"2025-01-01 10:00:00,123 INFO [rank {rank}] ",
    "a word": lambda rank: f"rank {rank}: ",
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("form", ["step {s}/2000 loss {v} lr {r}", '{{"step": {s}, "loss": {v}, "lr": {r}}}'])
@pytest.mark.parametrize("first", [0, 4])
def test_a_prefix_tells_ranks_apart(tmp_path: Path, prefix: str, form: str, first: int) -> None:
    losses = rows(3, 0.05)
    lines = ["nothing of a rank", *(f"{PREFIXES[prefix](r + first)}starting" for r in range(3))]
    for s, each, rate in zip(STEPS, losses, RATES, strict=True):
        order = [0, 1, 2] if s % 20 else [2, 0, 1]
        lines += [PREFIXES[prefix](r + first) + form.format(s=s, v=each[r], r=rate) for r in order]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == STEPS
    assert log.losses["train"].values.tolist() == losses[:, 0].tolist()
    assert log.rate is not None
    assert len(log.rate) == len(STEPS)
    assert log.notes == (f"rows of 3 ranks: those of rank {first} count",)


def test_the_rank_that_tells_of_losses_counts(tmp_path: Path) -> None:
    """Megatron prints them on the last rank only; what others say of themselves stays out, and nothing is told."""
    lines = [text for s in STEPS for text in (f"[rank0]: step {s} memory 3.5", f"[rank7]: step {s} loss {2 + 1 / s}")]
    log = read(tmp_path / "log", lines)
    assert (log.losses["train"].steps.tolist(), log.notes) == (STEPS, ())


def test_a_number_before_each_line_may_be_its_step(tmp_path: Path) -> None:
    log = read(tmp_path / "log", [f"{s}: step {s} loss {2 + 1 / s}" for s in STEPS])
    assert (log.losses["train"].steps.tolist(), log.notes) == (STEPS, ())
    times = read(tmp_path / "log", [f"12:{s % 60:02d}:03 step {s} loss {2 + 1 / s}" for s in STEPS])
    assert (times.losses["train"].steps.tolist(), times.notes) == (STEPS, ())


@pytest.mark.parametrize("key", ["rank", "local_rank", "global_rank"])
def test_a_column_tells_ranks_apart(tmp_path: Path, key: str) -> None:
    losses = rows(2, 0.05)
    records = [{"step": s, key: r, "loss": losses[k, r]} for k, s in enumerate(STEPS) for r in (0, 1)]
    log = read(tmp_path / "log", list(map(json.dumps, records)))
    assert log.losses["train"].values.tolist() == losses[:, 0].tolist()
    assert log.notes == ("rows of 2 ranks: those of rank 0 count",)
    of_lora = read(tmp_path / "log", [json.dumps({**each, key: 8}) for each in records[::2]])
    assert of_lora.notes == ()


FORMS = ["step {s} loss {v} lr {r}", '{{"step": {s}, "loss": {v}, "lr": {r}}}', "{s},{v},{r}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranks", [2, 8])
@pytest.mark.parametrize("live", [False, True])
def test_rows_alike_are_one(tmp_path: Path, form: str, ranks: int, live: bool) -> None:
    """Each rank rounds the mean of all on its own, the last one is late, and has not come so far."""
    losses, lines = rows(1, 0.0)[:, 0], []
    for k, s in enumerate(STEPS):
        lines += [form.format(s=s, v=round(losses[k] + 1e-4 * (r % 2), 5), r=RATES[k]) for r in range(ranks - 1)]
        if k >= 2:
            lines += [form.format(s=STEPS[k - 2], v=losses[k - 2], r=RATES[k - 2])]
    if not live:
        lines += [form.format(s=STEPS[k], v=losses[k], r=RATES[k]) for k in (-2, -1)]
    log = read(tmp_path / "log", (["step,loss,lr"] if form == FORMS[2] else []) + lines)
    assert log.losses["train"].steps.tolist() == STEPS
    assert np.abs(log.losses["train"].values - losses).max() < 2e-4
    assert any(f"as of {ranks} ranks that print the same rows" in note for note in log.notes)


@pytest.mark.parametrize("ranks", [2, 4])
def test_parts_of_a_batch_are_averaged(tmp_path: Path, ranks: int) -> None:
    losses = rows(ranks, 0.03)
    lines = [f"step {s} loss {losses[k, r]}" for k, s in enumerate(STEPS) for r in range(ranks)]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == STEPS
    np.testing.assert_allclose(log.losses["train"].values, losses.mean(axis=1))
    [note] = log.notes
    assert f"as of {ranks} ranks whose losses differ by" in note
    assert "their means count" in note


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("block", [7, 20])
def test_blocks_of_rows_that_take_turns(tmp_path: Path, ranks: int, block: int) -> None:
    """Where the output is a file, a rank writes it in blocks."""
    losses = rows(ranks, 0.03)
    places = range(0, len(STEPS), block)
    lines = [f"step {STEPS[k]} loss {losses[k, r]}"
             for at in places for r in range(ranks) for k in range(at, min(at + block, len(STEPS)))]  # fmt: skip
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == STEPS
    np.testing.assert_allclose(log.losses["train"].values, losses.mean(axis=1))
    assert any("their means count" in note for note in log.notes)


def test_ranks_that_crash_together_go_on_together(tmp_path: Path) -> None:
    """1000 steps by two ranks, begun again at 600: the second pass counts, and is told as a restart."""
    old, new = rows(2, 0.03, 1), rows(2, 0.03, 2)
    lines = [f"step {s} loss {old[k, r]}" for k, s in enumerate(STEPS[:80]) for r in (0, 1)]
    lines += [f"step {s} loss {new[k, r]}" for k, s in enumerate(STEPS) if s >= 600 for r in (0, 1)]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].steps.tolist() == STEPS
    np.testing.assert_allclose(log.losses["train"].values[:59], old.mean(axis=1)[:59])
    np.testing.assert_allclose(log.losses["train"].values[59:], new.mean(axis=1)[59:])
    assert any("1 restart" in note for note in log.notes)


@pytest.mark.parametrize("order", ["steady", "random"])
@pytest.mark.parametrize("gap", [0.05, 0.3])
def test_two_runs_that_differ_are_none_of_one_another_s_ranks(tmp_path: Path, order: str, gap: float) -> None:
    losses = rows(2, 0.005) * np.array([1, 1 + gap])
    swap = np.random.default_rng(3).integers(0, 2, len(STEPS)) * (order == "random")
    lines = [f"step {s} loss {losses[k, (r + swap[k]) % 2]:.5f}" for k, s in enumerate(STEPS) for r in (0, 1)]
    with pytest.raises(UserError, match="out of order, or several runs mixed"):
        read(tmp_path / "log", lines)


def test_two_rates_are_two_runs() -> None:
    losses = rows(2, 0.03)
    records = [{"step": s, "loss": losses[k, r], "lr": (1 + r) * RATES[k]} for k, s in enumerate(STEPS) for r in (0, 1)]
    with pytest.raises(UserError, match="out of order, or several runs mixed"):
        assemble(records, "rows")


def test_a_run_that_was_broken_off_early_is_no_rank(tmp_path: Path) -> None:
    both = [f"step {s} loss {2 + 1 / s}" for s in STEPS[:5]] + [f"step {s} loss {2.5 + 1 / s}" for s in STEPS]
    log = read(tmp_path / "log", both)
    assert log.losses["train"].values.tolist() == [2.5 + 1 / s for s in STEPS]


FILES: dict[str, Callable[[int, int, float], str]] = {
    "torchrun": lambda rank, s, v: f"[rank{rank}]: step {s} loss {v}",
    "torchrun by node": lambda rank, s, v: f"[default{rank}]: iteration {s}/ 2000 | lm loss: {v} |",
    "srun": lambda rank, s, v: f"{rank:>2}: step {s} loss {v}",
    "load": lambda rank, s, v: f"step {s} loss {v} (gpu {rank})",
    "column": lambda rank, s, v: json.dumps({"step": s, "loss": v, "rank": rank}),
}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("numbers", [[7, 3], [0, 1, 2, 3, 4], [128, 112, 96, 80], [8, 16] * 10, [5, 3, 4, 3] * 25])
def test_what_tells_of_other_steps_is_no_rank(tmp_path: Path, form: str, numbers: list[int]) -> None:
    """A restart whose losses another rank prints, an epoch, an hour, a load, the rank of an adapter or of a document:
    all rows but those with one of the numbers were left out."""
    losses, size = rows(1, 0.0)[:, 0].tolist(), len(STEPS) // len(numbers)
    lines = [FILES[form](numbers[k // size], s, losses[k]) for k, s in enumerate(STEPS)]
    log = read(tmp_path / "log", lines)
    assert (log.losses["train"].steps.tolist(), log.losses["train"].values.tolist()) == (STEPS, losses)
    assert log.notes == ()


@pytest.mark.parametrize("rank", [400.25, float("nan"), -1, "a"])
def test_a_column_without_a_whole_number_is_no_rank(tmp_path: Path, rank: object) -> None:
    """An effective rank; ranks of processes that were not asked."""
    records = [{"step": s, "loss": 2 + 1 / s, "rank": (0, rank)[k % 2]} for k, s in enumerate(STEPS)]
    log = assemble(records, "rows")
    assert (log.losses["train"].steps.tolist(), log.notes) == (STEPS, ())


def test_a_sweep_of_ranks_is_several_runs(tmp_path: Path) -> None:
    records = [{"step": s, "loss": 2 + 9 * s**-0.5 + r / 1000, "rank": r} for r in (8, 16) for s in STEPS]
    with pytest.raises(UserError, match="holds 2 runs, one after the other"):
        read(tmp_path / "log", list(map(json.dumps, records)))


@pytest.mark.parametrize("form", ["[rank{r}]: step {s} {key} {v}", '{{"step": {s}, "{key}": {v}, "rank": {r}}}'])
@pytest.mark.parametrize("every", [10, 100])
def test_each_loss_is_of_the_rank_that_tells_it(tmp_path: Path, form: str, every: int) -> None:
    """One rank trains and another one evaluates: of two losses one was left out."""
    lines = []
    for s in STEPS:
        lines.append(form.format(r=1, s=s, key="loss", v=2 + 1 / s))
        if s % every == 0:
            lines.append(form.format(r=0, s=s, key="val_loss", v=3 + 1 / s))
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].values.tolist() == [2 + 1 / s for s in STEPS]
    assert log.losses["val"].values.tolist() == [3 + 1 / s for s in STEPS if s % every == 0]


@pytest.mark.parametrize("none", [-1.0, float("nan")])
def test_a_rank_that_has_no_loss_tells_none(tmp_path: Path, none: float) -> None:
    """Pipelines: all but the last stage print -1, and were taken for the run."""
    lines = [f"[rank{r}]:[titan] step: {s}  loss: {(none, 2 + 1 / s)[r]}" for s in STEPS for r in (0, 1)]
    log = read(tmp_path / "log", lines)
    assert log.losses["train"].values.tolist() == [2 + 1 / s for s in STEPS]
    assert log.notes == ()


def test_runs_of_tuning_one_after_another_are_no_ranks(tmp_path: Path) -> None:
    """Flat losses, 100 steps, broken off and begun anew twice: half of the rows were thrown away as of two ranks."""
    losses = 1 + np.random.default_rng(5).normal(0, 0.01, 210).round(4)
    steps = [*STEPS[:60], *STEPS[:50], *STEPS]
    log = read(tmp_path / "log", [f"step {s} loss {v}" for s, v in zip(steps, losses, strict=True)])
    assert log.losses["train"].steps.tolist() == STEPS
    assert log.losses["train"].values.tolist() == losses[-100:].tolist()
