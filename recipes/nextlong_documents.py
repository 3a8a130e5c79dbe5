"""Short documents out of any text: train.jsonl, and every twentieth document of the input held out as test.jsonl."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from llmtool.core.corpus.readers import read_documents

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


with Path("train.jsonl").open("w") as train, Path("test.jsonl").open("w") as test:
    for number, document in enumerate(read_documents(sys.argv[1:], whole=True)):
        for part, text in enumerate(short(document.text.decode("utf-8", "ignore"))):
            if len(text) >= LEAST:
                row = {"id": f"{number}#{part}", "text": text}
                (test if number % 20 == 0 else train).write(json.dumps(row) + "\n")
