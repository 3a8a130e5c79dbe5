"""Short documents out of any text: train.jsonl, and every twentieth document of the input held out as test.jsonl."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from llmtool.core.corpus.readers import read_documents
from llmtool.core.run.atomic import atomic_files

SIZE, LEAST = 1500, 1100


def short(text: str) -> Iterator[str]:
    """Paragraphs together up to SIZE characters; what remains shorter than LEAST is dropped."""
    held: list[str] = []
    length = 0
    for paragraph in text.split("\n"):
        if held and length + len(paragraph) > SIZE:
            yield "\n".join(held)
            held, length = [], 0
        held.append(paragraph)
        length += len(paragraph)
    yield "\n".join(held)


# Whole or not there: the recipes take a train.jsonl that stands for a finished one.
with atomic_files() as files:
    train, test = files.open(Path("train.jsonl")), files.open(Path("test.jsonl"))
    for number, document in enumerate(read_documents(sys.argv[1:], whole=True)):
        for part, text in enumerate(short(document.text.decode("utf-8", "ignore"))):
            if len(text) >= LEAST:
                row = {"id": f"{number}#{part}", "text": text}
                (test if number % 20 == 0 else train).write(f"{json.dumps(row)}\n".encode())
