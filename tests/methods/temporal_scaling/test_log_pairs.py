"""Losses as lists of pairs in a summary of a run; and what is no loss though its name holds the word."""

import json
from pathlib import Path

import pytest

from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.logs.names import meaning

PAIRS = [[step, 3 + 1 / step] for step in range(1, 40)]


@pytest.mark.parametrize("name", ["train_loss_points", "lm loss", "loss_history", "train_loss"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_pairs_is_the_log(tmp_path: Path, name: str, indent: int | None) -> None:
    """The summary's `final_...` passed for a log of one row."""
    whole = {"run_id": "a", "final_nano_loss": 2.8, name: PAIRS, "val_loss_points": [[10, 3.5], [20, 3.25]]}
    (tmp_path / "run.json").write_text(json.dumps(whole, indent=indent))
    log = read_log(tmp_path / "run.json")
    assert log.losses["train"].steps.tolist() == [step for step, _ in PAIRS]
    assert log.losses["train"].values.tolist() == [value for _, value in PAIRS]
    assert log.losses["val"].steps.tolist() == [10, 20]
    assert set(log.losses) == {"train", "val"}


@pytest.mark.parametrize("name", ["gn_over_loss", "grad_over_loss", "loss_norm", "loss_fraction", "dloss_over_loss"])
def test_what_is_made_of_a_loss_is_none(name: str) -> None:
    assert meaning(name) is None
