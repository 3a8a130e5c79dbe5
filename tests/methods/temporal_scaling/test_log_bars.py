"""Rows without a step beside a bar that has one, as Hugging Face's Trainer prints them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs import Log, read_log

TOTAL, EVERY, EPOCH = 1000, 20, 250


def row(step: int, tokens: bool = False) -> str:
    more = f"'num_tokens': {step * 8192.0}, " if tokens else ""
    rate = 1e-3 * (1 - step / TOTAL)
    return f"{{'loss': {2 + step**-0.5:.4f}, 'learning_rate': {rate}, {more}'epoch': {step / EPOCH:.2f}}}"


def bar(step: int, total: int = TOTAL, name: str = "") -> str:
    return f"{name} {100 * step // total:>2}%|{'#' * (step * 10 // total):<10}| {step}/{total} [01:00<10:00,  1.2it/s]"


def read(path: Path, lines: Iterator[str] | list[str]) -> Log:
    path.write_text("\n".join(lines))
    return read_log(path)


def check(log: Log, last: int = 600) -> None:
    assert (log.unit, log.horizon) == ("step", TOTAL)
    assert log.losses["train"].steps.tolist() == list(range(EVERY, last + 1, EVERY))
    assert log.losses["train"].values.tolist() == [round(2 + n**-0.5, 4) for n in range(EVERY, last + 1, EVERY)]
    assert log.rate is not None
    assert log.rate.steps.tolist() == log.losses["train"].steps.tolist()


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("lag", [0, 1, 7])
@pytest.mark.parametrize("name", ["", "Training:"])
def test_the_steps_of_the_bar_are_the_axis(tmp_path: Path, tokens: bool, lag: int, name: str) -> None:
    """Tokens or rounded epochs were the axis. The bar is drawn when it is time to, at the row's step or before it."""
    lines = []
    for n in range(1, 601):
        if n % EVERY == (EVERY - lag) % EVERY or (n % 13 == 0 and n % EVERY < EVERY - lag):
            lines.append(f"\r{bar(n, name=name)}")
        if n % EVERY == 0:
            lines.append(row(n, tokens))
    log = read(tmp_path / "log", lines)
    check(log)
    assert (log.tokens is not None) == tokens


def test_a_bar_in_the_same_line(tmp_path: Path) -> None:
    check(read(tmp_path / "log", [f"{bar(n)}{row(n)}" for n in range(EVERY, 601, EVERY)]))


def test_bars_of_evaluations_go_between(tmp_path: Path) -> None:
    lines = [f"Loading weights: {bar(n, 254)}" for n in (1, 254)]
    for n in range(EVERY, 601, EVERY):
        lines += [bar(n), row(n), bar(n)]
        if n % 200 == 0:
            lines += [bar(k, 31) for k in (1, 20, 31)]
            lines += [f"{{'eval_loss': {3 + 1 / n}, 'eval_runtime': 8.1, 'epoch': {n / EPOCH:.2f}}}"]
    log = read(tmp_path / "log", lines)
    check(log)
    assert log.losses["val"].steps.tolist() == [200, 400, 600]


def test_steps_that_come_at_no_even_ones_are_those_of_the_bar(tmp_path: Path) -> None:
    steps = [3, 9, 31, 40, 77, 100, 160, 161, 240]
    log = read(tmp_path / "log", [text for n in steps for text in (bar(n), row(n))])
    assert log.losses["train"].steps.tolist() == steps


def test_the_first_step_beside_even_ones(tmp_path: Path) -> None:
    """logging_first_step."""
    steps = [1, *range(EVERY, 601, EVERY)]
    log = read(tmp_path / "log", [text for n in steps for text in (bar(n), row(n))])
    assert log.losses["train"].steps.tolist() == steps


@pytest.mark.parametrize("tokens", [False, True])
def test_rows_that_were_kept_back_have_no_bar_of_their_own(tmp_path: Path, tokens: bool) -> None:
    """Where the output is no terminal, they come in blocks: which bar is whose, nothing tells."""
    lines = []
    for n in range(EVERY, 601, EVERY):
        lines.append(bar(n))
        if n % 200 == 0:
            lines += [row(k, tokens) for k in range(n - 180, n + 1, EVERY)]
    log = read(tmp_path / "log", lines)
    assert (log.unit, log.horizon) == ("tokens" if tokens else "epoch", None)
    assert len(log.losses["train"]) == 30


def test_a_step_in_the_row_needs_no_bar(tmp_path: Path) -> None:
    lines = [text for n in range(1, 30) for text in (bar(3 * n), f"{{'step': {n}, 'loss': {2 + 1 / n}}}")]
    log = read(tmp_path / "log", lines)
    assert (log.losses["train"].steps.tolist(), log.horizon) == (list(range(1, 30)), None)


@pytest.mark.parametrize("lag", [0, 7])
@pytest.mark.parametrize(("broke", "again"), [(600, 500), (600, 0), (200, 100)])
def test_a_run_that_was_started_again(tmp_path: Path, lag: int, broke: int, again: int) -> None:
    """Steps of the old bar were put beside the new rows; where many were, the axis was the epochs."""
    lines, last = [], again + 300
    for first, end in ((0, broke), (again, last)):
        for n in range(first + 1, end + 1):
            if n % EVERY == (EVERY - lag) % EVERY or n == first + 1:
                lines.append(bar(n))
            if n % EVERY == 0:
                lines.append(row(n))
    log = read(tmp_path / "log", lines)
    check(log, last)
    assert any("restart" in note for note in log.notes)


@pytest.mark.parametrize("last", [TOTAL, 100])
def test_a_second_run_is_one(tmp_path: Path, last: int) -> None:
    lines = []
    for low, end in ((2, TOTAL), (2.1, last)):
        for n in range(EVERY, end + 1, EVERY):
            lines += [bar(n), f"{{'loss': {low + 9 * n**-0.5:.4f}, 'epoch': {n / EPOCH:.2f}}}"]
    with pytest.raises(UserError, match=f"holds 2 runs, .*step 20 to 1,000, .*; step 20 to {last:,}"):
        read(tmp_path / "log", lines)


def test_bars_of_many_lengths_take_no_longer(tmp_path: Path) -> None:
    """Each length went through all rows: minutes for the bars of as many files as there were rows."""
    lines = [
        text for n in range(EVERY, 601, EVERY) for text in (*(bar(1, 10**4 + n + k) for k in range(20)), bar(n), row(n))
    ]
    check(read(tmp_path / "log", lines))
