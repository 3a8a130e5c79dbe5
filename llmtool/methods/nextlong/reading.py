"""The stage `chunk`, first half: documents are read, cut, and laid down with what their place in the corpus hangs on.

A document's key is a hash of its id or, where the row has none, of its text. NNNNN.text holds the texts as they came,
NNNNN.about the JSON line of each, NNNNN.docs.npy int64 [docs, 7] in the order of the keys: key, first byte and bytes of
the text, first byte and bytes of the line, first chunk, chunks; NNNNN.bounds.npy [chunks, 2] bytes of each chunk in its
document, NNNNN.chars.npy [chunks].
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

import numpy as np

from llmtool.core.corpus.arrays import save_array
from llmtool.core.corpus.cuts import Unpacked
from llmtool.core.corpus.document import Document, ReadReport
from llmtool.core.corpus.inputs import STDIN, Input, distinct_names, find_inputs
from llmtool.core.corpus.plans import kept_units, plan_units
from llmtool.core.corpus.readers import read_streams
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps
from llmtool.methods.nextlong.chunking import Reading, byte_places, decoded, spans


@dataclass(frozen=True)
class Group:
    """The streams of one unit, each with the label of its source and what its rows' names begin with."""

    streams: list[Input] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)


def read_unit(stage: Stage, groups: list[Group], reading: Reading, unpacked: Unpacked, unit: int) -> None:
    """Read the streams of a unit and write its files; documents that are left out are counted by reason.

    unpacked: what stays open between units of one packed file.
    """
    skipped = ReadReport()
    rejects: dict[str, int] = {}
    # Packed arrays: a unit may hold a million short documents, and Python's objects for one take 0.4 KB.
    bounds, chars, documents = array("Q"), array("I"), array("Q")
    held = described = 0
    with ExitStack() as stack:
        texts = stack.enter_context(atomic_file(stage.path(unit, "text")))
        about = stack.enter_context(atomic_file(stage.path(unit, "about")))
        for document, label, prefix in _documents(groups[unit], reading, skipped, unpacked):
            text, reason = decoded(document.text)
            if reason:
                rejects[reason] = rejects.get(reason, 0) + 1
                if reason.startswith("not"):
                    skipped.add(f"{document.source}:{document.row}", reason)
                continue
            places = np.array(spans(text, reading.size, reading.split), np.int64)
            bounds.frombytes(byte_places(document.text, places.reshape(-1), text).astype(np.uint64).tobytes())
            kept = document.kept or {}
            licence = kept.get(reading.licence_field)
            name = _document_id(document, prefix)
            row = {
                "id": name,
                "source": kept.get(reading.source_field or "", label),
                **({"licence": licence} if licence else {}),
                "chars": len(text),
                "chunks": len(places),
            }
            # A file's name need not be UTF-8: a lone surrogate becomes its JSON escape.
            line = dumps(row, ensure_ascii=False).encode() + b"\n"
            owned = document.text if document.id is None else name.encode("utf-8", "surrogatepass")
            key = int.from_bytes(blake2b(owned, digest_size=8).digest(), "little")
            documents.extend((key, held, len(document.text), described, len(line), len(chars), len(places)))
            chars.extend((places[:, 1] - places[:, 0]).tolist())
            texts.write(document.text)
            about.write(line)
            held += len(document.text)
            described += len(line)
    found = np.asarray(documents, np.uint64).reshape(-1, 7)
    found = found[np.argsort(found[:, 0], kind="stable")]
    save_array(stage.path(unit, "bounds.npy"), np.asarray(bounds, np.uint64).reshape(-1, 2))
    save_array(stage.path(unit, "chars.npy"), np.asarray(chars, np.uint32))
    save_array(stage.path(unit, "docs.npy"), found)
    names = [stage.path(unit, suffix).name for suffix in ("text", "about", "bounds.npy", "chars.npy", "docs.npy")]
    stage.finish(unit, names, {"bytes": held, "rejects": rejects, "read": skipped.to_json()})


def _documents(
    group: Group, reading: Reading, skipped: ReadReport, unpacked: Unpacked
) -> Iterator[tuple[Document, str, str]]:
    keep = [reading.licence_field, *([reading.source_field] if reading.source_field else [])]
    for stream, label, prefix in zip(group.streams, group.labels, group.prefixes, strict=True):
        for document in read_streams([stream], reading.text, keep=keep, report=skipped, unpacked=unpacked):
            yield document, label, prefix


def _document_id(document: Document, prefix: str) -> str:
    """The row's own name, or the file's with the row's number; a name that is a number is some other file's as well."""
    if document.id is None:
        return f"{prefix}:{document.row}"
    return f"{prefix}:{document.id}" if document.id.isdecimal() else document.id


def total(facts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums of counts."""
    counts: Counter[str] = Counter()
    for each in facts:
        counts.update(each)
    return dict(counts)


def unit_groups(
    corpora: Sequence[str], reading: Reading, report: ReadReport, size: int, stage: Stage | None = None
) -> list[Group]:
    """Units of about `size` bytes, big files cut inside; a source is named after the input as the user named it.

    stage: keeps the plan.
    """
    groups: list[Group] = []
    streams = find_inputs(list(map(str, corpora)), reading.text, report)
    roots = list(dict.fromkeys(stream.root for stream in streams))
    labels = dict(zip(roots, distinct_names(["stdin" if root == STDIN else root for root in roots]), strict=True))
    plan = partial(plan_units, streams, reading.text, size)
    for unit in plan() if stage is None else kept_units(stage, plan):
        groups.append(Group())
        for stream in unit:
            label = labels[stream.root]
            below = "" if stream.source == stream.root else "/" + stream.source[len(stream.root) :].lstrip("/")
            groups[-1].streams.append(stream)
            groups[-1].labels.append(label)
            groups[-1].prefixes.append(label + below)
    return groups


def seal_read(read: Stage, units: int, found: ReadReport, console: Console, where: str) -> None:
    """All units are read: what was found and what was left out; refused where there is no text. found: of the plan."""
    facts = [read.facts(unit) for unit in range(units)]
    rejects = total(each["rejects"] for each in facts)
    report = ReadReport()
    for one in [found.to_json(), *(each["read"] for each in facts)]:
        report.merge(one)
    report.say(console)
    size = sum(each["bytes"] for each in facts)
    if not size:
        why = ", ".join(f"{number:,} {reason}" for reason, number in {**rejects, **report.reasons}.items())
        raise UserError(f"no text found{': ' + why if why else ''}", where=where)
    read.seal({"units": units, "bytes": size, "rejects": rejects, "skipped": report.reasons})
