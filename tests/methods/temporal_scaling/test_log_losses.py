"""Which loss of a log is looked at, what it is called, and in what unit it is."""

import json
from pathlib import Path

import pytest

from llmtool.methods.temporal_scaling import report
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.logs.log import assemble
from llmtool.methods.temporal_scaling.run import prepare

UNITS = {
    "step {n}: loss {v}": "",
    "step {n}: val bpb {v}": "bits per byte",
    "step {n}: val bpc {v}": "bits per character",
    "iter {n}: train bits/char {v}": "bits per character",
    "step:{n} bits_per_byte:{v}": "bits per byte",
    "step:{n} bits_per_character:{v}": "bits per character",
}


@pytest.mark.parametrize("line", UNITS)
def test_the_unit_of_a_loss_is_told(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text("\n".join(line.format(n=n, v=round(1 + 3 / n, 5)) for n in range(1, 60)))
    log = read_log(tmp_path / "log")
    first = next(report.lines(forecast(prepare(log, horizon=90.0))))
    assert first.split(",")[0].endswith(f"loss in {UNITS[line]}" if UNITS[line] else "loss")
    assert any(note.endswith(f"is in {UNITS[line]}") for note in log.notes) == bool(UNITS[line])


def test_a_loss_in_nats_needs_no_other_unit() -> None:
    log = assemble([{"step": n, "loss": 2 + 1 / n, "bpc": 3 + 1 / n} for n in range(1, 9)], "rows")
    assert (list(log.losses), log.losses["train"].values[0], log.units) == (["train"], 3.0, {})
    assert assemble([{"step": 1, "char_loss": 2.0, "byte_loss": 3.0}], "rows").units == {}


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (["loss_disc", "loss_disc_real_0", "loss_0", "loss_gen", "loss_feat", "loss_mel", "loss_1"], "gen"),
        (["Loss/D/loss", "Loss/G/loss", "Loss/pl_penalty"], "g"),
        (["d_loss", "g_loss"], "g"),
        (["g_adv_loss", "g_loss_l1", "g_loss"], "g"),
        (["discriminator_loss", "decoder_loss"], "decoder"),
        (["critic_loss"], "critic"),
        (["loss_disc", "loss_gen", "loss"], "train"),
    ],
)
def test_the_loss_of_an_adversary_is_not_that_of_the_model(names: list[str], metric: str) -> None:
    """A log of a vocoder was told by its discriminator, which stood first."""
    log = assemble([{"step": n, **{name: 2 + k + 1 / n for k, name in enumerate(names)}} for n in (1, 2, 3)], "rows")
    assert log.metric() == metric


def test_a_held_out_part_of_a_loss_is_called_so(tmp_path: Path) -> None:
    rows = [{"epoch": n, "train/box_loss": 1 / n, "val/box_loss": 2 / n, "val/wiki_loss": 3 / n} for n in (1, 2, 3)]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    log = read_log(tmp_path / "log")
    assert list(log.losses) == ["train_box", "val_box", "wiki"]  # a loss that has no other half is of a set
    assert log.losses["val_box"].values.tolist() == [2.0, 1.0, 2 / 3]
    assert (log.metric(), log.metric("box"), log.columns["val_box"]) == ("train_box", "val_box", "val/box_loss")
    same = assemble([{"step": n, "loss_gen": 1 / n, "eval/loss_gen": 2 / n} for n in (1, 2)], "rows")
    assert {name: each.values.tolist() for name, each in same.losses.items()} == {"gen": [1, 0.5], "val_gen": [2, 1]}
