"""Twelve tiny runs for `benchmarks/scaling.py`: `python benchmarks/curves.py OUT`, half an hour on one core.

A forecast that was tuned on one project's runs fails on another's. These differ in what projects differ in: schedule,
warm-up, batch, optimizer, size, seed; all learn Python's standard library. Each becomes OUT/NAME.csv with the step, the
rate, the mean training loss since the row before, and the loss of held-out text. A curve that is there is kept.
"""

import csv
import io
import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmtool.core.run.atomic import atomic_file

RUNS = {
    "cosine": "--schedule cosine --warmup 100 --batch 2048 --steps 2000",
    "linear_to_zero": "--schedule linear --warmup 20 --final-lr 0 --batch 2048 --steps 2000",
    "wsd_no_warmup": "--schedule wsd --warmup 0 --final-lr 0 --decay 0.2 --batch 2048 --steps 2000",
    "constant": "--schedule constant --warmup 50",
    "muon_cosine": "--schedule cosine --warmup 50 --optimizer muon --final-lr 0",
    "muon_linear": "--schedule linear --warmup 10 --optimizer muon --final-lr 0.1",
    "muon_wsd": "--schedule wsd --warmup 0 --optimizer muon --final-lr 0 --decay 0.3",
    "muon_constant": "--schedule constant --warmup 20 --optimizer muon",
    "cosine_small_batch": "--schedule cosine --warmup 200 --batch 512 --seed 1 --final-lr 0.1",
    "linear_large_batch": "--schedule linear --warmup 100 --batch 4096 --seed 2 --steps 480 --final-lr 0",
    "wsd_long_decay": "--schedule wsd --warmup 40 --decay 0.5 --final-lr 0 --seed 3 --model 400K",
    "linear_high_rate": "--schedule linear --warmup 0 --final-lr 0 --lr 0.01 --seed 4 --model 100K",
}
USUAL = "--model 200K --length 64 --batch 1024 --steps 1200 --holdout 0.03 --eval-tokens 16K --threads 1"
ROWS = 80
"""Evaluations a run."""


def llmtool(*arguments: str) -> None:
    """A command, without its progress."""
    subprocess.run([sys.executable, "-m", "llmtool", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)


def options(text: str) -> list[str]:
    """The usual options and a run's own, which win."""
    values: dict[str, str] = {}
    for words in (USUAL, text):
        pairs = words.split()
        values |= dict(zip(pairs[::2], pairs[1::2], strict=True))
    values["--eval-every"] = str(int(values["--steps"]) // ROWS)
    return [word for pair in values.items() for word in pair]


def thinned(log: Path) -> Iterator[list[object]]:
    """A row an evaluation of a metrics.jsonl."""
    yield ["step", "lr", "train_loss", "val_loss"]
    since: list[float] = []
    for line in log.read_text().splitlines():
        row = json.loads(line)
        if row.get("loss") is not None:
            since.append(row["loss"])
        if (held := row.get("eval")) and since:
            loss = sum(part["loss"] for part in held.values()) / len(held)
            yield [row["step"], f"{row['lr']:.6g}", f"{sum(since) / len(since):.5f}", f"{loss:.5f}"]
            since = []


def main(out: Path) -> None:
    """Train what is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    library = sysconfig.get_path("stdlib")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sources = sorted(str(path) for path in Path(library).glob("*.py"))
        llmtool("tokenizer", "train", *sources, "-o", str(work / "bpe.json"),
                "--vocab-size", "1024",
                "--special", "<|endoftext|>")  # fmt: skip
        llmtool("tokenizer", "encode", str(work / "bpe.json"), *sources, "--format", "bin", "--eos",
                "-o", str(work / "text.bin"))  # fmt: skip
        for run, text in RUNS.items():
            if (path := out / f"{run}.csv").exists():
                continue
            llmtool("train", str(work / "text.bin"), "-o", str(work / run), "--tokenizer", str(work / "bpe.json"),
                    *options(text))  # fmt: skip
            table = io.StringIO()
            csv.writer(table, lineterminator="\n").writerows(thinned(work / run / "metrics.jsonl"))
            with atomic_file(path) as file:
                file.write(table.getvalue().encode())
            print(path, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/curves.py DIRECTORY")
    main(Path(sys.argv[1]))
