"""The stage `chunk`, second half: documents in the order of their keys, whatever the order of files and rows was.

A unit takes an even share of the keys from all that was read. Chunks are numbered in that order, so ties, samples of
the corpus and everything behind them hang on the documents and not on where they stood. A chunk's text is its
document's from its first to its last character: texts are stored whole, one after another (NNNNN.text), with the
chunks' byte ranges (NNNNN.bounds.npy [chunks, 2]), characters (NNNNN.chars.npy [chunks]) and the documents
(NNNNN.docs.jsonl; NNNNN.docs.npy [docs, 4]: byte in that file, first chunk, source, key).
"""

import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.json_file import parse_json
from llmtool.methods.nextlong.chance import again

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
PART = 1 << 16
"""Documents of a unit that are held at a time: half a million short ones, which a unit may have, took 160 MB."""


def share_of(keys: U64, unit: int, units: int) -> slice:
    """Where the keys of a unit stand among sorted ones: those from unit / units to (unit + 1) / units of all keys."""
    edges = [(number << 64) // units for number in (unit, unit + 1)]
    first, stop = (len(keys) if edge >> 64 else int(np.searchsorted(keys, np.uint64(edge))) for edge in edges)
    return slice(first, stop)


class Found(NamedTuple):
    """A document of a unit: bounds of its chunks (two each), their characters."""

    key: int
    digest: bytes
    text: bytes
    line: bytes
    bounds: "array[int]"
    chars: "array[int]"


@dataclass
class _Gathered:
    """Some documents in the order in which they were read, one after another: no object for each of them.

    Of document n: keys[n], its text and JSON line as bytes text_at[n] to text_at[n + 1] of `texts` (and `lines`), 16
    bytes of `digests`, chunks chunk_at[n] to chunk_at[n + 1] of `bounds` (two each) and `chars`.
    """

    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    texts: bytearray = field(default_factory=bytearray)
    lines: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)
    bounds: "array[int]" = field(default_factory=lambda: array("Q"))
    chars: "array[int]" = field(default_factory=lambda: array("I"))
    text_at: "array[int]" = field(default_factory=lambda: array("Q", [0]))
    line_at: "array[int]" = field(default_factory=lambda: array("Q", [0]))
    chunk_at: "array[int]" = field(default_factory=lambda: array("Q", [0]))

    def add(self, read: Stage, source: int, rows: U64) -> None:
        """Those of `rows` of a unit that was read (key, text's first byte and bytes, line's, first chunk, chunks)."""
        bounds, chars = map_array(read.path(source, "bounds.npy")), map_array(read.path(source, "chars.npy"))
        with read.path(source, "text").open("rb", 0) as texts, read.path(source, "about").open("rb", 0) as lines:
            for row in rows:
                key, start, size, line_start, line_size, first, chunks = row.tolist()
                text = os.pread(texts.fileno(), size, start)
                line = os.pread(lines.fileno(), line_size, line_start)
                self.keys.append(key)
                self.texts += text
                self.lines += line
                self.digests += blake2b(text + b"\0" + line, digest_size=16).digest()
                self.bounds.frombytes(bounds[first : first + chunks].tobytes())
                self.chars.frombytes(chars[first : first + chunks].tobytes())
                self.text_at.append(len(self.texts))
                self.line_at.append(len(self.lines))
                self.chunk_at.append(len(self.chars))

    def order(self) -> I64:
        """Numbers of the documents by their keys, of equal ones by their content."""
        content = np.frombuffer(self.digests, ">u8").reshape(-1, 2)
        return np.lexsort((content[:, 1], content[:, 0], np.asarray(self.keys, np.uint64)))

    def __getitem__(self, number: int) -> Found:
        first, stop = self.chunk_at[number], self.chunk_at[number + 1]
        return Found(
            self.keys[number],
            bytes(self.digests[16 * number : 16 * number + 16]),
            bytes(self.texts[self.text_at[number] : self.text_at[number + 1]]),
            bytes(self.lines[self.line_at[number] : self.line_at[number + 1]]),
            self.bounds[2 * first : 2 * stop],
            self.chars[first:stop],
        )


def _shares(read: Stage, sources: int, unit: int, units: int) -> Iterator[tuple[int, U64]]:
    """Of each unit that was read the documents of this one, if it holds any."""
    for source in range(sources):
        rows: U64 = map_array(read.path(source, "docs.npy"))
        rows = rows[share_of(rows[:, 0], unit, units)]
        if len(rows):
            yield source, rows


def _in_order(read: Stage, sources: int, unit: int, units: int) -> Iterator[Found]:
    """The documents of a unit in their order; of equal keys by their content."""
    gathered = _Gathered()
    for source, rows in _shares(read, sources, unit, units):
        gathered.add(read, source, rows)
    if gathered.keys:
        yield from map(gathered.__getitem__, gathered.order().tolist())


def order_unit(stage: Stage, read: Stage, sources: int, units: int, unit: int) -> None:
    """Write one of `units` units from what `sources` units read."""
    bounds, chars, documents = array("Q"), array("I"), array("Q")
    names: dict[str, int] = {}
    digest = blake2b(digest_size=16)
    held = described = times = shared = 0
    before, name = None, None
    parts = 1 + sum(len(rows) for _, rows in _shares(read, sources, unit, units)) // PART
    with ExitStack() as stack:
        texts = stack.enter_context(atomic_file(stage.path(unit, "text")))
        about = stack.enter_context(atomic_file(stage.path(unit, "docs.jsonl")))
        for part in range(unit * parts, (unit + 1) * parts):
            for found in _in_order(read, sources, part, units * parts):
                times = times + 1 if found.key == before else 0  # a name, or a text, that came before
                facts = parse_json(found.line)
                shared += times > 0 and facts["id"] == name
                before, name = found.key, facts["id"]
                source, own = facts["source"], again(found.key, times)
                documents.extend((described, len(chars), names.setdefault(source, len(names)), own))
                bounds.extend(place + held for place in found.bounds)
                chars.extend(found.chars)
                texts.write(found.text)
                about.write(found.line)
                digest.update(found.digest)
                held += len(found.text)
                described += len(found.line)
    save_array(stage.path(unit, "bounds.npy"), np.asarray(bounds, np.uint64).reshape(-1, 2))
    save_array(stage.path(unit, "chars.npy"), np.asarray(chars, np.uint32))
    save_array(stage.path(unit, "docs.npy"), np.asarray(documents, np.uint64).reshape(-1, 4))
    files = [stage.path(unit, suffix).name for suffix in ("text", "docs.jsonl", "bounds.npy", "chars.npy", "docs.npy")]
    facts = {
        "documents": len(documents) // 4, "chunks": len(chars), "bytes": held, "chars": sum(chars),
        "sources": list(names), "digest": digest.hexdigest(), "shared_ids": shared,
    }  # fmt: skip
    stage.finish(unit, files, facts)
