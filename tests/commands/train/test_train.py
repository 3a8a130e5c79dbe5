"""Training from end to end: it learns, resumes to the bit, survives kills, and tells what it did."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from llmtool import Tokenizer, load_model
from llmtool.commands.train.command import train
from llmtool.core.kernels import peaks
from llmtool.core.model.cost import training_flops
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.train import summary
from llmtool.core.train.metrics import read_rows
from llmtool.core.train.objective import Batch, Figures, Term
from llmtool.methods.temporal_scaling.logs import read_log
from tests.commands.train.runs import TINY, run, same, stop_after, weights


def test_it_learns_and_the_model_is_a_checkpoint(whole: Path) -> None:
    rows = read_rows(whole / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert rows[0]["loss"] == pytest.approx(np.log(301), abs=0.3)
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert rows[-1]["tokens"] == 24 * 256
    held = [row["eval"]["other"] for row in rows if "eval" in row]
    assert len(held) == 3
    assert len(held[-1]["positions"]) == 32
    assert np.mean(held[-1]["positions"]) == pytest.approx(held[-1]["loss"], abs=1e-4)
    assert held[-1]["bits_per_byte"] < held[0]["bits_per_byte"]
    assert {"run.json", "config.json", "model.safetensors", "tokenizer.json", "llmtool.json", "loss.png"} <= set(
        os.listdir(whole)
    )
    model = load_model(whole)
    assert "".join(model.stream("the cat", max_new_tokens=5))
    facts = json.loads((whole / "run.json").read_text())
    assert all(entry["sha256"] for entry in facts["inputs"])


def test_stock_transformers_reads_it(whole: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole)
    ids = torch.arange(5, 25)[None]
    assert torch.allclose(theirs(ids).logits, load_model(whole)(ids), atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(whole).encode("the cat sat")


def test_a_device_of_the_table_has_a_utilisation(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peaks, "BF16", (("cpu", 3e9),))
    report = run(corpus, tmp_path / "a", steps=4, dtype="bf16", console=Console(verbosity=0))
    flops = training_flops(load_model(tmp_path / "a").decoder, TINY["length"])
    rate = flops * median(row["tokens_per_s"] for row in read_rows(tmp_path / "a/metrics.jsonl"))
    assert (report["flops_per_token"], report["flops_per_s"], report["mfu"]) == (flops, rate, rate / 3e9)
    share = f"FLOP/s, {rate / 3e9:.1%} of what 1 x cpu can do by the datasheet"
    assert share in " ".join(capsys.readouterr().err.split())
    assert run(corpus, tmp_path / "b", steps=4)["mfu"] is None  # fp32 has no datasheet


def test_scaling_reads_the_log(whole: Path) -> None:
    log = read_log(whole)
    assert len(log.losses["train"]) == 24
    assert log.positions["other"].values.shape == (3, 32)
    assert log.tokens_per_step == 256
    assert log.rate is not None


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_run_ends_with_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    run(corpus, tmp_path / "whole", optimizer=optimizer)
    stop_after(monkeypatch, 9)
    assert run(corpus, tmp_path / "out", optimizer=optimizer)["stopped"]
    assert not (tmp_path / "out" / "run.json").exists()
    monkeypatch.undo()
    assert not run(corpus, tmp_path / "out", optimizer=optimizer)["stopped"]
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))
    losses = [[row["loss"] for row in read_rows(tmp_path / name / "metrics.jsonl")] for name in ("out", "whole")]
    assert losses[0] == losses[1]


class Planted(Term):
    """Spoils the loss at a step."""

    def __init__(self, step: int, by: float) -> None:
        self.step, self.by, self.calls = step, by, 0

    def add(self, loss: torch.Tensor, figures: Figures, carry: Any, batch: Batch) -> torch.Tensor:
        self.calls += 1
        figures["calls"] = torch.tensor([self.calls, 1.0])
        if self.calls > 2 * self.step:
            figures["loss"] = figures["loss"] + self.by
            return loss + self.by
        return loss


@pytest.mark.parametrize("by, line", [(float("nan"), "step 23: loss nan"), (5.0, "step 23: loss .* above its mean")])
def test_a_broken_loss_stops_with_the_last_state_intact(corpus: Path, tmp_path: Path, by: float, line: str) -> None:
    with pytest.raises(UserError, match=line):
        run(corpus, tmp_path / "out", terms={"planted": Planted(22, by)}, max_loss_jump=2.0)
    assert sorted(os.listdir(tmp_path / "out" / "checkpoints")) == ["00000012", "00000018"]
    run(corpus, tmp_path / "out", max_loss_jump=2.0)
    run(corpus, tmp_path / "whole", max_loss_jump=2.0)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_terms_figures_and_trainable(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "start", steps=1)
    run(
        corpus, tmp_path / "out", model=str(tmp_path / "start"), tokenizer=None, terms={"planted": Planted(99, 0.0)},
        trainable=lambda name: "mlp" in name,
    )  # fmt: skip
    before, after = weights(tmp_path / "start"), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "mlp" in name}
    figures = [row["figures"]["calls"] for row in read_rows(tmp_path / "out" / "metrics.jsonl")]
    assert figures[3] == [7.5, 1.0]  # the mean of the step's two micro-batches
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "start" / "tokenizer.json").read_bytes()


def test_only_the_named_parameters_move(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["*.mlp.down_proj.weight", "model.norm.weight"]
    for out, stop in (("once", False), ("twice", True)):  # a run that was stopped goes on with the same ones
        if stop:
            stop_after(monkeypatch, 3)
        run(corpus, tmp_path / out, model=str(whole), only=names, steps=6, save_every=3)
        monkeypatch.undo()
    run(corpus, tmp_path / "twice", model=str(whole), only=names, steps=6, save_every=3)
    before, after = weights(whole), weights(tmp_path / "once")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "down_proj" in name or name == "model.norm.weight"}
    assert same(after, weights(tmp_path / "twice"))


def test_accumulation_gives_the_same_gradient(corpus: Path, tmp_path: Path) -> None:
    kinds = {"whole": {"micro": 8}, "parts": {"micro": 2}, "recomputed": {"micro": 8, "recompute": True}}
    for name, changes in kinds.items():
        run(corpus, tmp_path / name, steps=6, mask_documents=True, **changes)
    norms = {name: [row["grad_norm"] for row in read_rows(tmp_path / name / "metrics.jsonl")] for name in kinds}
    assert norms["parts"] == pytest.approx(norms["whole"], rel=1e-4)
    assert norms["recomputed"] == norms["whole"]


def kill(command: list[str], log: Path, rows: int) -> bool:
    """Start, wait for so many rows beyond those that stand there, and kill; whether there was something to kill."""

    def written() -> int:
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    wanted = written() + rows
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while process.poll() is None and written() < wanted:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_kill_nine_at_random_moments(corpus: Path, tmp_path: Path) -> None:
    """Three here; twenty with recipes/kill.sh."""
    output = tmp_path / "out"
    command = [sys.executable, "-m", "llmtool", "train", str(corpus / "train.bin"), "-o", str(output), "-q"]
    names = {**TINY, "steps": 400, "save_every": 5, "eval_every": 100, "tokenizer": corpus / "bpe.json"}
    command += [word for key, value in names.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    killed, moments = 0, random.Random(1)
    while killed < 3:  # a machine on which this process waits too long begins anew
        killed += kill(command, output / "metrics.jsonl", moments.randrange(1, 60))
        if (output / "run.json").exists():
            shutil.rmtree(output)
            killed = 0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "complete already" in done.stderr, done.stderr
    run(corpus, tmp_path / "whole", steps=400, save_every=0, eval_every=100)
    assert same(weights(output), weights(tmp_path / "whole"))
    assert [row["step"] for row in read_rows(output / "metrics.jsonl")] == list(range(1, 401))


def test_bf16_is_near_fp32_and_keeps_fp32_weights(corpus: Path, tmp_path: Path) -> None:
    for dtype in ("fp32", "bf16"):
        run(corpus, tmp_path / dtype, dtype=dtype, steps=8)
    losses = [[row["loss"] for row in read_rows(tmp_path / dtype / "metrics.jsonl")] for dtype in ("fp32", "bf16")]
    assert losses[1] == pytest.approx(losses[0], abs=0.03)
    assert losses[1] != losses[0]
    assert {tensor.dtype for tensor in weights(tmp_path / "bf16").values()} == {torch.float32}


def test_the_first_row_and_run_json_carry_the_tokenizer(corpus: Path, whole: Path, tmp_path: Path) -> None:
    wanted = Tokenizer.load(corpus / "bpe.json").fingerprint()
    rows = read_rows(whole / "metrics.jsonl")
    assert [row.get("tokenizer_hash") for row in rows[:2]] == [wanted, None]
    assert json.loads((whole / "run.json").read_text())["config"]["tokenizer_hash"] == wanted
    assert read_log(whole).tokenizer == wanted
    run(corpus, tmp_path / "ids", tokenizer=None, steps=1)  # what the .bin says
    assert read_rows(tmp_path / "ids" / "metrics.jsonl")[0]["tokenizer_hash"] == wanted


def test_the_table_says_what_its_figures_are() -> None:
    rows: list[dict[str, Any]] = [
        {"step": n, "tokens": 10 * n, "lr": 0.1, "loss": float(n), "tokens_per_s": 5.0, "time": 4.0 * n}
        for n in range(1, 5)
    ]
    rows[-1] |= {"eval": {"other": {"loss": 1.0}}, "eval_seconds": 3.0}
    assert summary.times(rows) == "8 s of updates, 5 tokens/s, 3 s of evaluation, 5 s of saving and writing"


def test_held_out_text_that_is_trained_on_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**TINY, "steps": 2, "tokenizer": str(corpus / "bpe.json"), "console": Console(0), "dry_run": True}
    copy = tmp_path / "copy.txt"
    copy.write_bytes((corpus / "other.txt").read_bytes())
    train([str(corpus / "train.bin"), str(corpus / "other.txt")], tmp_path / "out", valid=[str(copy)], **settings)
    assert "warning: --valid copy: the same text as other, which is trained on" in capsys.readouterr().err
    copy.write_text("something else\n" * 20)
    train([str(corpus / "train.bin"), str(corpus / "other.txt")], tmp_path / "out", valid=[str(copy)], **settings)
    assert "warning" not in capsys.readouterr().err


def test_sources_are_mixed_by_weight_and_text_is_tokenised(corpus: Path, tmp_path: Path) -> None:
    data = [f"a={corpus / 'train.bin'}@3", f"{corpus / 'other.txt'}@1"]
    settings = {**TINY, "steps": 4, "eval_every": 4}
    train(data, tmp_path / "out", tokenizer=str(corpus / "bpe.json"), holdout=0.1, **settings)
    begun = json.loads((tmp_path / "out" / "train.json").read_text())
    assert begun["data"]["weights"] == [0.75, 0.25]
    assert [source["name"] for source in begun["data"]["sources"]] == ["a", "other"]
    assert set(read_rows(tmp_path / "out" / "metrics.jsonl")[-1]["eval"]) == {"a-held-out", "other-held-out"}


def test_tensorboard(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(corpus, tmp_path / "out", steps=3, tensorboard=tmp_path / "board")
    assert read_log(tmp_path / "board").losses["train"].values.shape == (3,)
