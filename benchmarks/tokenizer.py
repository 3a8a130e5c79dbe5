"""Encode and train beside the fastest tokenizers there are, on one machine in one run.

    python benchmarks/tokenizer.py CORPUS.jsonl [--threads 1] [--repeats 5] [--only NAME ...]
        [--task encode|train|hostile]

Every measurement is a fresh process ("cold": caches empty), contenders take turns, and the median is shown. What a
contender returns is hashed, and no ratio is printed for one whose ids (or merges) are not ours. Peers that are not
installed are left out by name. The corpus should be large and diverse: a small or repeated text flatters caches.
"""

import argparse
import array
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

VOCAB_SIZE = 32_000
SLOW_BYTES = 12_000_000
"""What slow peers encode; their MB/s hardly depend on the amount of text."""

Encode = Callable[[], tuple[bytes, int]]
"""Encodes all documents; returns the ids as u32 and the number of bytes that were encoded."""


def read(corpus: Path) -> list[str]:
    with corpus.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def head(documents: list[str]) -> list[str]:
    """The first SLOW_BYTES of the corpus, in whole documents."""
    sizes = itertools.accumulate(len(text.encode()) for text in documents)
    return [text for text, size in zip(documents, sizes, strict=True) if size <= SLOW_BYTES]


def flat(rows: Sequence[Sequence[int]]) -> bytes:
    return array.array("I", itertools.chain.from_iterable(rows)).tobytes()


def ours(directory: Path, documents: list[str], threads: int, name: str) -> Encode:
    from llmtool import Tokenizer
    from llmtool.core.bpe.vocabulary import pack_ends

    stem, encoder = {"llmtool": ("bpe", "merge"), "llmtool lbpe": ("bpe", "lbpe")}.get(name, ("scaffold", "merge"))
    engine = Tokenizer.load(directory / f"{stem}.json").with_encoder(encoder)._encoder
    data = [text.encode() for text in documents]
    text, ends = b"".join(data), pack_ends(map(len, data))
    return lambda: (engine.encode_batch(text, ends, threads)[0], len(text))


def fastokens(directory: Path, documents: list[str], threads: int) -> Encode:
    import fastokens as package

    tokenizer = package._native.Tokenizer.from_file(str(directory / "hf" / "tokenizer.json"))
    size = sum(len(text.encode()) for text in documents)
    return lambda: (tokenizer.encode_batch_flat(documents)[0], size)


def gigatoken(directory: Path, documents: list[str], threads: int) -> Encode:
    import gigatoken as package
    import numpy as np

    tokenizer = package.Tokenizer(directory / "hf" / "tokenizer.json")
    data = [text.encode() for text in documents]
    rows: Any = None

    def encode() -> tuple[bytes, int]:
        nonlocal rows
        rows = tokenizer.encode_batch(data, parallel=threads > 1)
        return np.asarray(rows.layout.content.data, np.uint32), sum(map(len, data))  # type: ignore[return-value]

    return encode


def tokenizers(directory: Path, documents: list[str], threads: int) -> Encode:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "hf" / "tokenizer.json"))
    texts = head(documents)
    size = sum(len(text.encode()) for text in texts)
    return lambda: (flat([row.ids for row in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]), size)


def tiktoken(directory: Path, documents: list[str], threads: int) -> Encode:
    import tiktoken as package

    from llmtool.core.bpe.export import read_tiktoken

    encoding = package.Encoding(**read_tiktoken(directory / "tiktoken"))
    texts = head(documents)
    size = sum(len(text.encode()) for text in texts)
    return lambda: (flat(encoding.encode_ordinary_batch(texts, num_threads=threads)), size)


ENCODERS: dict[str, Any] = {
    "fastokens": fastokens,
    "gigatoken": gigatoken,
    "tiktoken": tiktoken,
    "tokenizers": tokenizers,
}
OURS = ("llmtool", "llmtool lbpe", "llmtool scaffold")


def train_ours(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    from llmtool import Tokenizer

    pretokenizer = "gpt2" if name.endswith("gpt2") else "llama3"
    algorithm = "scaffold" if "scaffold" in name else "bpe"
    documents = [text.encode() for text in read(corpus)]

    def train() -> bytes:
        made = Tokenizer.train_from_documents(
            documents, VOCAB_SIZE, algorithm=algorithm, pretokenizer=pretokenizer, threads=threads
        )
        return repr(tuple(made.definition.vocabulary.merges)).encode()

    return train


def train_tokenizers(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
    from llmtool.core.bpe.vocabulary import BYTE_ORDER, string_to_token

    documents = read(corpus)
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PRETOKENIZERS["llama3"].pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)

    def train() -> bytes:
        tokenizer.train_from_iterator(documents, trainer)
        facts = json.loads(tokenizer.to_str())["model"]
        number = facts["vocab"]
        assert [string_to_token(c)[0] for c in sorted(number, key=number.__getitem__)[:256]] == list(BYTE_ORDER)
        return repr(tuple((number[a], number[b], number[a + b]) for a, b in facts["merges"])).encode()

    return train


def train_gigatoken(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    import gigatoken as package

    from llmtool.core.bpe.vocabulary import BYTE_ORDER

    source = package.JsonlFileSource([str(corpus)])

    def train() -> bytes:
        _, pairs = package.train_bpe(source, VOCAB_SIZE, [])
        number = {bytes([byte]): unit for unit, byte in enumerate(BYTE_ORDER)}
        triples = []
        for left, right in pairs:
            number.setdefault(left + right, len(number))
            triples.append((number[left], number[right], number[left + right]))
        return repr(tuple(triples)).encode()

    return train


TRAINERS: dict[str, Any] = {
    "llmtool": train_ours,
    "llmtool scaffold": train_ours,
    "tokenizers": train_tokenizers,
    "llmtool gpt2": train_ours,
    "gigatoken gpt2": train_gigatoken,
}

HOSTILE: dict[str, Callable[[int], str]] = {
    "one letter": lambda n: "a" * n,
    "spaces": lambda n: " " * n,
    "one emoji": lambda n: "\U0001f600" * (n // 4),
    "random bytes": lambda n: os.urandom(n).decode("latin-1"),
    "no boundary": lambda n: ("thequickbrownfoxjumpsoverthelazydog" * (n // 35 + 1))[:n],
}


def hostile(directory: Path) -> None:
    """Time of 10 MB over time of 1 MB, one document, for each encoder and training."""
    from llmtool import Tokenizer

    for stem, encoder in (("bpe", "merge"), ("bpe", "lbpe"), ("scaffold", "merge")):
        tokenizer = Tokenizer.load(directory / f"{stem}.json").with_encoder(encoder)
        for name, make in HOSTILE.items():
            seconds = []
            for size in (1_000_000, 10_000_000):
                text = make(size).encode("latin-1" if name == "random bytes" else "utf-8")
                engine = Tokenizer(tokenizer.definition)._encoder
                engine.encode(b"warm")
                seconds.append(timed(partial(engine.encode, text))["cpu"])
            print(
                f"{stem:9}{encoder:6}{name:13}{seconds[0]:8.3f} s {seconds[1]:8.3f} s  {seconds[1] / seconds[0]:.1f}x"
            )
    for name, make in HOSTILE.items():
        seconds = []
        for size in (1_000_000, 10_000_000):
            text = make(size).encode("latin-1" if name == "random bytes" else "utf-8")
            seconds.append(timed(partial(Tokenizer.train_from_documents, [text], 1000, threads=1))["cpu"])
        print(f"{'training':15}{name:13}{seconds[0]:8.3f} s {seconds[1]:8.3f} s  x{seconds[1] / seconds[0]:.1f}")


def timed(work: Callable[[], Any]) -> dict[str, Any]:
    before, wall, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"result": result, "wall": wall, "cpu": cpu, "mib_before": before >> 10, "mib_peak": peak >> 10}


def worker(task: str, name: str, corpus: Path, directory: Path, threads: int) -> dict[str, Any]:
    """One measurement: runs in a process of its own."""
    if task == "train":
        row = timed(TRAINERS[name](corpus, threads, name))
        row["sha256"] = hashlib.sha256(row.pop("result")).hexdigest()
        return row
    documents = read(corpus)
    encode = (
        ours(directory, documents, threads, name) if name in OURS else ENCODERS[name](directory, documents, threads)
    )
    row = timed(encode)
    ids, size = row.pop("result")
    row |= {"bytes": size, "ids": len(memoryview(ids).cast("B")) // 4, "sha256": hashlib.sha256(ids).hexdigest()}
    row["warm_wall"] = timed(encode)["wall"]
    if name == "llmtool":  # what slow peers are compared with
        row["head_sha256"] = hashlib.sha256(ours(directory, head(documents), threads, name)()[0]).hexdigest()
    return row


def measure(arguments: argparse.Namespace, name: str, directory: Path) -> dict[str, Any]:
    environment = os.environ | {
        "RAYON_NUM_THREADS": str(arguments.threads),
        "TOKENIZERS_PARALLELISM": "true" if arguments.threads > 1 else "false",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, __file__, str(arguments.corpus), "--task", arguments.task, "--worker", name]
    command += ["--threads", str(arguments.threads), "--directory", str(directory)]
    if arguments.threads == 1 and hasattr(os, "sched_getaffinity"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # gigatoken prints what it does
    return row


def prepare(corpus: Path, directory: Path) -> None:
    """The tokenizers that all contenders load, trained on the corpus."""
    from llmtool import Tokenizer
    from llmtool.core.bpe.export import export_huggingface, export_tiktoken

    for algorithm in ("bpe", "scaffold"):
        tokenizer = Tokenizer.train([corpus], VOCAB_SIZE, algorithm=algorithm)
        tokenizer.save(directory / f"{algorithm}.json")
        if algorithm == "bpe":
            export_huggingface(tokenizer, directory / "hf")
            export_tiktoken(tokenizer, directory / "tiktoken")


def table(rows: dict[str, list[dict[str, Any]]], task: str) -> None:
    """Medians, with ratios to ours where the result is ours."""
    for name, runs in rows.items():
        first, wall = runs[0], statistics.median(run["wall"] for run in runs)
        base = rows.get("llmtool gpt2" if name.endswith("gpt2") else "llmtool")
        line = f"{name:18}{wall:8.3f} s wall {statistics.median(run['cpu'] for run in runs):8.3f} s cpu"
        if task == "encode":
            line += f"{first['bytes'] / wall / 1e6:9.1f} MB/s"
            line += f"  warm {first['bytes'] / statistics.median(run['warm_wall'] for run in runs) / 1e6:6.1f} MB/s"
        line += f"  peak {first['mib_peak']} MiB, {first['mib_peak'] - first['mib_before']} of it new"
        if base:
            slow = task == "encode" and first["bytes"] != base[0]["bytes"]
            same = first["sha256"] == base[0]["head_sha256" if slow else "sha256"]
            if same:
                speed = [run.get("bytes", 1) / run["wall"] for run in (*base, *runs)]
                ratio = statistics.median(speed[: len(base)]) / statistics.median(speed[len(base) :])
                line += f"  ours is {ratio:.2f}x"
            elif "lbpe" not in name and "scaffold" not in name:
                line += "  NOT OUR RESULT"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--task", choices=("encode", "train", "hostile"), default="encode")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--directory", type=Path, help="keep the trained tokenizers here and use them again")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        row = worker(arguments.task, arguments.worker, arguments.corpus, arguments.directory, arguments.threads)
        print(json.dumps(row))
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        if not (directory / "hf").exists() and arguments.task != "train":
            prepare(arguments.corpus, directory)
        if arguments.task == "hostile":
            hostile(directory)
            return
        names = arguments.only or list(TRAINERS if arguments.task == "train" else (*OURS, *ENCODERS))
        packages = {name: name.split()[0] for name in names}
        missing = {name for name, package in packages.items() if not importlib.util.find_spec(package)}
        there = sorted(set(packages.values()) - missing - {"llmtool"})
        versions = {package: importlib.metadata.version(package) for package in there}
        machine = platform.processor() or platform.machine()
        print(f"{machine}, {os.cpu_count()} cores, {versions}; not installed: {sorted(missing)}")
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names if name not in missing}
        for turn in range(arguments.repeats):
            order = list(rows) if turn % 2 == 0 else list(rows)[::-1]
            for name in order:
                rows[name].append(measure(arguments, name, directory))
        table(rows, arguments.task)


if __name__ == "__main__":
    main()
