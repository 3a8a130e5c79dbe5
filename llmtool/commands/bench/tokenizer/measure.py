"""Contenders in turns, each in a process of its own, and the table of their medians."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llmtool
from llmtool.commands.bench.settings import PeersSettings
from llmtool.commands.bench.tokenizer.contenders import OURS, PEERS, TRAINERS, VOCAB_SIZE, head, ours, read
from llmtool.core.run.atomic import check_directory
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ChoiceError, UserError
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.manifest import git_revision
from llmtool.core.run.outputs import refuse_overlap

SCHEMA = "llmtool.bench-tokenizer/1"
TASKS = ("encode", "train", "hostile")


def benchmark(
    corpus: Path, settings: PeersSettings | None = None, *, console: Console, **named_settings: Any
) -> dict[str, Any]:
    """Measure."""
    asked = PeersSettings.of(settings, named_settings)
    task, only, threads, repeats = asked.task, asked.only, asked.threads, asked.repeats
    if not corpus.is_file():
        raise UserError("no such file", where=str(corpus), hint="a corpus of 100 MB or more, as JSONL")
    known = list(TRAINERS if task == "train" else (*OURS, *PEERS))
    if wrong := [name for name in only if name not in known]:
        raise ChoiceError(f"contender {wrong[0]!r} is not known", hint=f"one of {', '.join(known)}")
    chosen = [name for name in known if name in (only or known)]
    if asked.keep:
        refuse_overlap([asked.keep], [corpus])
        check_directory(asked.keep)
    missing = sorted({p for p in map(_package, chosen) if not importlib.util.find_spec(p)})
    chosen = [name for name in chosen if _package(name) not in missing]
    if missing and task != "hostile":
        console.info(f"not installed, left out: {', '.join(missing)}")
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task,
        "corpus": corpus.name,
        "bytes": corpus.stat().st_size,
        "pretokenizer": asked.pretokenizer,
        "threads": threads,
        "repeats": repeats,
        "llmtool": llmtool.__version__,
        "git": git_revision(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {p: importlib.metadata.version(p) for p in sorted(set(map(_package, chosen)) - {"llmtool"})},
    }
    with TemporaryDirectory(prefix="llmtool-") as temporary:
        directory = asked.keep or Path(temporary)
        if task != "train" and not (directory / "hf").exists():
            prepare(corpus, directory, asked.pretokenizer)
        if task == "hostile":
            from llmtool.commands.bench.tokenizer.hostile import JOBS, TEXTS, growth

            with console.progress("measuring", len(JOBS) * len(TEXTS), "texts") as bar:
                rows = []
                for row in growth(directory):
                    rows.append(row)
                    bar.advance(1)
            return {**report, "rows": rows}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
        with console.progress("measuring", repeats * len(chosen), "runs") as bar:
            for turn in range(repeats):
                for name in chosen if turn % 2 == 0 else chosen[::-1]:
                    runs[name].append(_measure(corpus, task, name, threads, directory))
                    bar.advance(1)
    return {**report, "rows": [_row(name, runs, task) for name in chosen]}


def prepare(corpus: Path, directory: Path, pretokenizer: str) -> None:
    """The tokenizers that all contenders load, trained on the corpus."""
    from llmtool.core.bpe.export import export_huggingface, export_tiktoken
    from llmtool.tokenizer import Tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    for algorithm in ("bpe", "scaffold"):
        tokenizer = Tokenizer.train([corpus], VOCAB_SIZE, algorithm=algorithm, pretokenizer=pretokenizer)
        tokenizer.save(directory / f"{algorithm}.json")
        if algorithm == "bpe":
            export_tiktoken(tokenizer, directory / "tiktoken")
            export_huggingface(tokenizer, directory / "hf")


def show(report: dict[str, Any], page: Console) -> None:
    """The report as a table for people, on stdout."""
    title, header, rows = table(report)
    page.table(title, header, rows, result=True)


def table(report: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, names of columns, and cells."""
    if report["task"] == "hostile":
        rows = [
            [row["job"], row["text"], f"{row['seconds'][0]:.3f}", f"{row['seconds'][1]:.3f}", f"{row['growth']:.1f}x"]
            for row in report["rows"]
        ]
        return "Hostile text", ["job", "text", "1 MB, s", "10 MB, s", "growth"], rows
    encodes = report["task"] == "encode"
    header = ["", "wall s", "CPU s", *(["MB/s", "warm MB/s"] if encodes else []), "peak MiB", "of it new", "ours is"]
    rows = []
    for row in report["rows"]:
        speeds = [f"{row['mb_per_s']:.1f}", f"{row['warm_mb_per_s']:.1f}"] if encodes else []
        ratio = f"{row['ratio']:.2f}x" if row["ratio"] is not None else "NOT OUR RESULT" if row["same"] is False else ""
        memory = [f"{row['peak_mib']:,}", f"{row['new_mib']:,}"]
        rows.append([row["name"], f"{row['wall']:.3f}", f"{row['cpu']:.3f}", *speeds, *memory, ratio])
    return "Tokenizers beside one another", header, rows


def _package(name: str) -> str:
    return name.split()[0]


def _measure(corpus: Path, task: str, name: str, threads: int, directory: Path) -> dict[str, Any]:
    environment = os.environ | {
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "PYTHONPATH": os.pathsep.join([str(Path(llmtool.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", __name__, task, name, str(corpus), str(directory), str(threads)]
    if threads == 1 and hasattr(os, "sched_getaffinity"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise UserError(f"{name} failed, see above", hint="leave it out with --only")
    row: dict[str, Any] = parse_json(done.stdout.splitlines()[-1])  # gigatoken prints what it does
    return row


def _row(name: str, runs: dict[str, list[dict[str, Any]]], task: str) -> dict[str, Any]:
    """Medians, with the ratio to ours where the result is ours."""
    mine, base = runs[name], runs.get("llmtool gpt2" if name.endswith("gpt2") else "llmtool")
    first, wall = mine[0], _median(mine, "wall")
    row = {"name": name, "wall": wall, "cpu": _median(mine, "cpu"), "same": None, "ratio": None}
    row |= {"peak_mib": first["mib_peak"], "new_mib": first["mib_peak"] - first["mib_before"]}
    if task == "encode":
        row |= {"mb_per_s": first["bytes"] / wall / 1e6}
        row |= {"warm_mb_per_s": first["bytes"] / _median(mine, "warm_wall") / 1e6}
    if base and "lbpe" not in name and "scaffold" not in name:
        slow = task == "encode" and first["bytes"] != base[0]["bytes"]
        row["same"] = first["sha256"] == base[0]["head_sha256" if slow else "sha256"]
    if base and row["same"] is not False:
        speeds = [first.get("bytes", 1) / wall, base[0].get("bytes", 1) / _median(base, "wall")]
        row["ratio"] = speeds[1] / speeds[0]
    return row


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def _timed(work: Callable[[], Any]) -> dict[str, Any]:
    before, wall, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"result": result, "wall": wall, "cpu": cpu, "mib_before": before >> 10, "mib_peak": peak >> 10}


def worker(task: str, name: str, corpus: Path, directory: Path, threads: int) -> dict[str, Any]:
    """One measurement: runs in a process of its own."""
    if task == "train":
        row = _timed(TRAINERS[name](corpus, threads, name))
        row["sha256"] = hashlib.sha256(row.pop("result")).hexdigest()
        return row
    documents = read(corpus)
    encode = ours(directory, documents, threads, name) if name in OURS else PEERS[name](directory, documents, threads)
    row = _timed(encode)
    ids, size = row.pop("result")
    row |= {"bytes": size, "ids": len(memoryview(ids).cast("B")) // 4, "sha256": hashlib.sha256(ids).hexdigest()}
    row["warm_wall"] = _timed(encode)["wall"]
    if name == "llmtool":  # what slow peers are compared with
        row["head_sha256"] = hashlib.sha256(ours(directory, head(documents), threads)()[0]).hexdigest()
    return row


if __name__ == "__main__":
    task, name, corpus, directory, threads = sys.argv[1:]
    print(dumps(worker(task, name, Path(corpus), Path(directory), int(threads))))
