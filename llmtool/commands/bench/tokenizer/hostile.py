"""Text that makes careless tokenizers quadratic: the time of 10 MB over the time of 1 MB, one document."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtool.core.run.json_file import parse_json

SIZES = (1_000_000, 10_000_000)
REPEATS = 5

PATTERNS = {"one letter": "a", "spaces": " ", "one emoji": "\U0001f600", "no boundary": "thequickbrownfoxjumps"}
TEXTS = (*PATTERNS, "random bytes")
JOBS = ("bpe merge", "bpe lbpe", "scaffold merge", "training bpe", "training scaffold")


def make(name: str, size: int) -> bytes:
    """So many bytes of a kind."""
    if name == "random bytes":
        return os.urandom(size)
    data = PATTERNS[name].encode()
    return (data * (size // len(data) + 1))[:size]


def growth(directory: Path) -> Iterator[dict[str, Any]]:
    """A row for each job and text: median CPU seconds of both sizes; each measurement in a process of its own."""
    for job in JOBS:
        for text in TEXTS:
            seconds = []
            for size in SIZES:
                command = [sys.executable, "-m", "llmtool.commands.bench.tokenizer.hostile", str(directory), job, text]
                runs = [
                    parse_json(subprocess.run([*command, str(size)], capture_output=True, check=True).stdout)
                    for _ in range(REPEATS)
                ]
                seconds.append(statistics.median(runs))
            yield {"job": job, "text": text, "seconds": seconds, "growth": seconds[1] / seconds[0]}


def once(directory: Path, job: str, text: bytes) -> float:
    """CPU seconds of one job, caches empty, its first document gone by."""
    from llmtool.tokenizer import Tokenizer

    first, second = job.split()
    if first == "training":
        before = time.process_time()
        Tokenizer.train_from_documents([text], 1000, algorithm=second, threads=1)
        return time.process_time() - before
    engine = Tokenizer.load(directory / f"{first}.json").with_encoder(second)._encoder
    engine.encode(b"warm")
    before = time.process_time()
    engine.encode(text)
    return time.process_time() - before


if __name__ == "__main__":
    print(once(Path(sys.argv[1]), sys.argv[2], make(sys.argv[3], int(sys.argv[4]))))
