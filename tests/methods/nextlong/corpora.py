"""Small corpora of real text: Python's own sources, and a tokenizer trained on them."""

import json
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from llmtool.tokenizer import Tokenizer

LIBRARY = Path(sysconfig.get_path("stdlib"))
PACKAGES = ("email", "http", "json", "logging", "asyncio")


@cache
def tokenizer() -> Tokenizer:
    files = [LIBRARY / "json" / "decoder.py", LIBRARY / "argparse.py"]
    return Tokenizer.train_from_documents([file.read_bytes() for file in files], 600, special=["<|endoftext|>"])


@cache
def sources(limit: int = 60) -> tuple[tuple[str, str, str], ...]:
    """(id, package, text) of modules of a few packages."""
    found = []
    for package in PACKAGES:
        for file in sorted((LIBRARY / package).glob("*.py")):
            found.append((f"{package}/{file.name}", package, file.read_text(encoding="utf-8")[:12_000]))
    return tuple(found[:limit])


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus(path: Path, limit: int = 60) -> Path:
    """A JSONL file of modules, each with the package as source and a licence."""
    rows = sources(limit)
    return write_jsonl(path, ({"id": i, "kind": kind, "license": "PSF-2.0", "text": text} for i, kind, text in rows))
