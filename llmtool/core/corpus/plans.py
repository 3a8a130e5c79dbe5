"""The plan of long work on a corpus: its streams in units, big files cut inside; made once and kept with the work."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.corpus.columns import row_groups
from llmtool.core.corpus.cuts import Ends, Inside, Lines, Separators, counted_parts, packed_parts, plain_parts
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.readers import kind_of
from llmtool.core.corpus.reading import Reading
from llmtool.core.corpus.remote import is_url
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.tars import samples

CUTS = 2
"""Goes up when the same files are cut in other places: work that was begun with other units is not gone on with."""

PLAN = "plan.json"


def plan_units(streams: Sequence[Input], reading: Reading, size: int, *, inside: bool = False) -> list[list[Input]]:
    """Streams in order, in units of about `size` bytes on disk; big files are cut inside, packed ones too.

    A unit is a function of the files alone. What is cut is read once for it, a packed file unpacked; of Parquet and
    tars the headers are. inside: plain text that is one document is cut too, where no token is (`Input.begun`, `more`).
    """
    units: list[list[Input]] = [[]]
    held = 0
    for stream in streams:
        for part in _parts(stream, reading, size, inside):
            if held >= size:
                units.append([])
                held = 0
            units[-1].append(part)
            held += part.size or 0
    return units


def kept_units(stage: Stage, plan: Callable[[], list[list[Input]]]) -> list[list[Input]]:
    """The stage's plan as it was kept, else as it is made now: a packed file need not be unpacked for it again."""
    kept: dict[str, Any] = stage.kept(PLAN, lambda: {"units": [[asdict(part) for part in unit] for unit in plan()]})
    return [[_part(part) for part in unit] for unit in kept["units"]]


def _part(kept: dict[str, Any]) -> Input:
    member = kept["member"]
    return Input(**{**kept, "member": None if member is None else (member[0], member[1])})


def _parts(stream: Input, reading: Reading, size: int, inside: bool) -> Iterable[Input]:
    if stream.size is None or stream.size <= size or is_url(stream.source):
        return [stream]
    kind, packed = kind_of(stream, reading)
    if kind == "parquet" and not packed:
        return counted_parts(stream, kind, size, row_groups(stream))
    if kind == "tar" and not packed:
        return counted_parts(stream, kind, size, samples(stream.source))
    ends: Ends
    if kind == "jsonl" or (kind == "text" and reading.text_mode == "line"):
        ends = Lines()
    elif kind == "text" and reading.document_separator:
        ends = Separators(encode_text(reading.document_separator))
    elif kind == "text" and inside:
        ends = Inside()
    else:
        return [stream]
    return (packed_parts if packed else plain_parts)(stream, kind, size, ends)
