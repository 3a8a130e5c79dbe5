"""One sample for the eye: its spans in the order of the text, the seed's chunks coloured, the negatives named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong.report import span_text, work_of
from llmtool.methods.nextlong.samples import rows
from llmtool.methods.nextlong.store import Store

STYLES = {"meta": "bold green", "negative": "yellow", "document": "cyan"}


def find(output: Path, name: str) -> dict[str, Any]:
    """A sample by its id, the id of its seed, or its number (from 0)."""
    for number, row in enumerate(rows(output)):
        if name in (row["id"], row["seed"], str(number)):
            return row
    raise UserError(f"no sample {name!r}", where=str(output), hint="a sample's id, its seed's, or a number from 0")


def parts(output: Path, row: dict[str, Any], characters: int | None) -> Iterator[tuple[str, str, str]]:
    """(role, heading, text) of each span; texts are shortened to `characters`."""
    store: Store | None = None
    if "text" not in row:
        work = work_of(output)
        if work is None:
            raise UserError("holds ids only and its work directory is gone", where=str(output))
        store = Store(work)
    for span in row["spans"]:
        start, stop = span["chars"]
        text = row["text"][start:stop] if store is None else span_text(span, store)
        kind = (
            f"negative {span['rank']}, similarity {span['score']:.3f}" if span["role"] == "negative" else span["role"]
        )
        first, last = span["tokens"]
        heading = f"[{kind}] {span['doc_id']} · chunk {span['chunk_id']} · tokens {first:,} to {last:,}"
        if characters is not None and len(text) > characters:
            text = text[:characters] + f" … ({len(text) - characters:,} more characters)"
        yield span["role"], heading, text
