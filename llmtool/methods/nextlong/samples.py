"""Samples as an output directory holds them, read again and checked: samples-*.jsonl, or spans-*.jsonl beside ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtool.core.corpus.shards import AGAIN
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import open_plain
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.record import Record
from llmtool.core.run.seal import read_sealed

OLDER_SEPARATOR = "\n\n"
"""What is taken to stand between chunks where a run does not say: it is the default."""

ROLES = ("meta", "negative", "document")


def rows(output: Path) -> Iterator[dict[str, Any]]:
    """All samples of an output directory in order, with their text where the format is JSONL."""
    parts = sorted(output.glob("samples-*.jsonl")) or sorted(output.glob("spans-*.jsonl"))
    if not parts:
        raise UserError("holds no samples", where=str(output), hint="name the directory that `data nextlong -o` wrote")
    for part in parts:
        with open_plain(part) as file:
            for number, line in enumerate(file, 1):
                where = f"{part}:{number}"
                try:
                    row = parse_json(line)
                except ValueError:
                    raise UserError("not a sample", where=where) from None
                yield _checked(Record(row, where))


def _checked(row: Record) -> dict[str, Any]:
    """A sample of which every field that a report or a look at it reads is what it should be."""
    for key in ("id", "seed"):
        row.text(key)
    row.text("seed_source", default="")
    row.text("text", default="")
    _whole(row, "n_tokens", "target", "seed_chunks")
    if "behind" in row.facts:
        _whole(row, "behind")
    row.record("sources").counts()
    row.record("licences", default={}).counts()
    for number, fact in enumerate(row.items("spans")):
        span = Record(fact, f"{row.where}: spans[{number}]")
        span.text("doc_id")
        _whole(span, "chunk_id")
        if "chunks" in span.facts:
            _whole(span, "chunks", low=1)
        for key in ("tokens", "chars"):
            start, stop = span.reals(key, low=0, length=2)
            if not (start.is_integer() and stop.is_integer() and start <= stop):
                raise UserError(f"{key} {span.facts[key]} is no range", where=span.where)
        if span.choice("role", ROLES) == "negative":
            _whole(span, "rank", low=1)
            span.real("score")
            if span.facts.get("refill", False) not in (True, False):
                raise UserError("refill is neither true nor false", where=span.where)
    return row.facts


def _whole(row: Record, *keys: str, low: int = 0) -> None:
    """Whole numbers as such: "66" is one, too, where somebody's tool wrote it."""
    for key in keys:
        row.facts[key] = row.whole(key, low=low)


def done_of(output: Path) -> Record:
    """What the run that wrote the samples says of them, with a checksum of its own."""
    done = output / "done.json"
    if not output.is_dir():
        raise UserError("no such directory", where=str(output), hint="name the one that `data nextlong -o` wrote")
    if not done.exists():
        raise UserError("is not complete", where=str(output), hint="run the same command again: it goes on")
    return Record(read_sealed(done, AGAIN), str(done))


def separator_of(output: Path) -> str:
    """What stands between the chunks of the samples."""
    return done_of(output).text("separator", default=OLDER_SEPARATOR)
