"""Tiny runs for `benchmarks/scaling.py`: `python benchmarks/curves.py OUT [SWEEP]`, two hours on one core.

A forecast that was tuned on one project's runs fails on another's. These differ in what projects differ in: schedule,
warm-up, batch, optimizer, size, seed; all learn Python's standard library. Each becomes OUT/NAME.csv with the step, the
rate, the mean training loss since the row before, and the loss of held-out text. A curve that is there is kept.

Real runs take the largest batch that still pays. So do these, 8,192 tokens a step for 50,000 parameters (about an hour
on one core). OUT/../short/NAME.csv and OUT/../longer/NAME.csv take 512 to 4,096, most of them at higher rates: there a
fall of the rate takes off about twice as much as elsewhere.

SWEEP/NAME.csv: runs of one schedule and one evaluation set that differ in their mixture of data or in their rate, as
`scaling compare` meets them.
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
    "cosine": "--schedule cosine --warmup 100",
    "linear_to_zero": "--schedule linear --warmup 20 --final-lr 0",
    "wsd_no_warmup": "--schedule wsd --warmup 0 --final-lr 0 --decay 0.2",
    "constant": "--schedule constant --warmup 50",
    "muon_cosine": "--schedule cosine --warmup 50 --optimizer muon --final-lr 0",
    "muon_linear": "--schedule linear --warmup 10 --optimizer muon --final-lr 0.1",
    "muon_wsd": "--schedule wsd --warmup 0 --optimizer muon --final-lr 0 --decay 0.3",
    "muon_constant": "--schedule constant --warmup 20 --optimizer muon",
    "cosine_small_batch": "--schedule cosine --warmup 200 --batch 4096 --seed 1 --final-lr 0.1",
    "linear_large_batch": "--schedule linear --warmup 100 --batch 16384 --seed 2 --steps 2000 --final-lr 0",
    "wsd_long_decay": "--schedule wsd --warmup 40 --decay 0.5 --final-lr 0 --seed 3 --model 100K",
    "linear_high_rate": "--schedule linear --warmup 0 --final-lr 0 --lr 0.01 --seed 4",
}
SHORT = {
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
LONGER = {
    "cosine": "--schedule cosine --warmup 100",
    "linear_to_zero": "--schedule linear --warmup 20 --final-lr 0 --seed 1",
    "muon_cosine": "--schedule cosine --warmup 50 --optimizer muon --final-lr 0 --seed 2",
    "wsd_no_warmup": "--schedule wsd --warmup 0 --final-lr 0 --decay 0.2 --seed 3",
    "constant": "--schedule constant --warmup 50 --seed 4",
}
MIXTURES = {
    "modules": ("1", "0.004"),
    "modules_low_rate": ("1", "0.002"),
    "modules_high_rate": ("1", "0.008"),
    "mixed_70": ("0.7", "0.004"),
    "mixed_40": ("0.4", "0.004"),
    "mixed_40_high_rate": ("0.4", "0.008"),
    "mixed_10": ("0.1", "0.004"),
}
"""The share of the library's modules in what is trained on, the rest being its packages; and the peak rate. All are
evaluated on modules that none has seen."""
ALL = "--length 64 --holdout 0.03 --threads 1"
USUAL = f"{ALL} --model 50K --batch 8192 --steps 3000 --lr 0.004 --eval-tokens 64K --eval-every 30"
BRIEF = f"{ALL} --model 200K --batch 1024 --steps 1200 --eval-tokens 16K"
LONG = f"{ALL} --model 50K --batch 512 --steps 5000 --eval-tokens 16K --eval-every 50"
ROWS = 80
"""Evaluations a run, where it does not say."""


def llmtool(*arguments: str) -> None:
    """A command, without its progress."""
    subprocess.run([sys.executable, "-m", "llmtool", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)


def options(text: str) -> list[str]:
    """Options of which a later one wins."""
    words = text.split()
    values = dict(zip(words[::2], words[1::2], strict=True))
    values.setdefault("--eval-every", str(int(values["--steps"]) // ROWS))
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


def train(path: Path, work: Path, data: list[str], text: str) -> None:
    """A run on encoded texts, as a table; one that is there is kept."""
    if path.exists():
        return
    run = work / path.stem
    llmtool("train", *data, "-o", str(run), "--tokenizer", str(work / "bpe.json"), *options(text))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(thinned(run / "metrics.jsonl"))
    with atomic_file(path) as file:
        file.write(table.getvalue().encode())
    print(path, flush=True)


def encode(work: Path, name: str, sources: list[str]) -> str:
    """Encoded text under a name."""
    out = work / f"{name}.bin"
    llmtool("tokenizer", "encode", str(work / "bpe.json"), *sources, "--format", "bin", "--eos", "-o", str(out))
    return str(out)


def main(out: Path, sweep: Path | None) -> None:
    """Train what is not there yet."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = sorted(str(path) for path in library.glob("*.py"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        llmtool("tokenizer", "train", *modules, "-o", str(work / "bpe.json"),
                "--vocab-size", "1024",
                "--special", "<|endoftext|>")  # fmt: skip
        few = encode(work, "text", modules)
        sources = [path for path in library.rglob("*.py") if not {"test", "site-packages"} & set(path.parts)]
        whole = encode(work, "whole", sorted(map(str, sources)))
        for folder, runs, text, usual in (
            (out, RUNS, whole, USUAL),
            (out.with_name("short"), SHORT, few, BRIEF),
            (out.with_name("longer"), LONGER, whole, LONG),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            for run, settings in runs.items():
                train(folder / f"{run}.csv", work, [text], f"{usual} {settings}")
        if sweep is None:
            return
        sweep.mkdir(parents=True, exist_ok=True)
        packages = sorted(str(path) for path in library.glob("[a-z]*/*.py") if path.parent.name != "site-packages")
        seen, other = (
            encode(work, "seen", [p for i, p in enumerate(modules) if i % 10]),
            encode(work, "other", packages),
        )
        held = encode(work, "held", modules[::10])
        for run, (share, rate) in MIXTURES.items():
            data = [seen] if share == "1" else [f"{seen}@{share}", f"{other}@{1 - float(share):g}"]
            train(sweep / f"{run}.csv", work, data, f"{BRIEF} --lr {rate} --holdout 0 --valid val={held}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python benchmarks/curves.py DIRECTORY [DIRECTORY_OF_THE_SWEEP]")
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else None)
