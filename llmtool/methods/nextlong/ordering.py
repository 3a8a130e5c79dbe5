"""The stage `chunk`, second half: documents in the order of their keys, whatever the order of files and rows was.

A unit takes an even share of the keys from all that was read. Chunks are numbered in that order, so ties, samples of
the corpus and everything behind them hang on the documents and not on where they stood. A chunk's text is its
document's from its first to its last character: texts are stored whole, one after another (NNNNN.text), with the
chunks' byte ranges (NNNNN.bounds.npy [chunks, 2]), characters (NNNNN.chars.npy [chunks]) and the documents
(NNNNN.docs.jsonl; NNNNN.docs.npy [docs, 4]: byte in that file, first chunk, source, key).
"""

import os
from array import array
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.json_file import parse_json
from llmtool.methods.nextlong.words import mix

U64 = npt.NDArray[np.uint64]
Found = tuple[int, bytes, bytes, bytes, U64, npt.NDArray[np.uint32]]
"""Key, digest, text, JSON line, bounds of its chunks, their characters."""


def share_of(keys: U64, unit: int, units: int) -> slice:
    """Where the keys of a unit stand among sorted ones: those from unit / units to (unit + 1) / units of all keys."""
    edges = [(number << 64) // units for number in (unit, unit + 1)]
    first, stop = (len(keys) if edge >> 64 else int(np.searchsorted(keys, np.uint64(edge))) for edge in edges)
    return slice(first, stop)


def _read(path: Path, places: npt.NDArray[np.int64]) -> list[bytes]:
    """Ranges (first byte, bytes) of a file."""
    file = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(file, size, start) for start, size in places.tolist()]
    finally:
        os.close(file)


def _found(read: Stage, sources: int, unit: int, units: int) -> list[Found]:
    """The documents of a unit in their order; of equal keys by their content."""
    found: list[Found] = []
    for source in range(sources):
        rows: U64 = map_array(read.path(source, "docs.npy"))
        rows = rows[share_of(rows[:, 0], unit, units)]
        if not len(rows):
            continue
        texts = _read(read.path(source, "text"), rows[:, 1:3].astype(np.int64))
        lines = _read(read.path(source, "about"), rows[:, 3:5].astype(np.int64))
        # mapped once: to map them anew for each document was a third of the stage
        bounds, chars = (map_array(read.path(source, f"{name}.npy")) for name in ("bounds", "chars"))
        places = zip(rows[:, 0].tolist(), rows[:, 5].tolist(), rows[:, 6].tolist(), strict=True)
        for (key, first, chunks), text, line in zip(places, texts, lines, strict=True):
            digest = blake2b(text + b"\0" + line, digest_size=16).digest()
            own = slice(first, first + chunks)
            found.append((key, digest, text, line, bounds[own].copy(), chars[own].copy()))
    return sorted(found, key=lambda each: each[:2])


def order_unit(stage: Stage, read: Stage, sources: int, units: int, unit: int) -> None:
    """Write one of `units` units from what `sources` units read."""
    bounds, chars, documents = array("Q"), array("I"), array("Q")
    names: dict[str, int] = {}
    digest = blake2b(digest_size=16)
    held = described = again = 0
    before = None
    with ExitStack() as stack:
        texts = stack.enter_context(atomic_file(stage.path(unit, "text")))
        about = stack.enter_context(atomic_file(stage.path(unit, "docs.jsonl")))
        for key, content, text, line, ends, lengths in _found(read, sources, unit, units):
            again = again + 1 if key == before else 0  # a name, or a text, that came before
            before = key
            row = parse_json(line)
            own = mix(np.array([key + again & (1 << 64) - 1], np.uint64))[0] if again else key
            documents.extend((described, len(chars), names.setdefault(row["source"], len(names)), int(own)))
            bounds.frombytes((ends + np.uint64(held)).tobytes())
            chars.frombytes(lengths.tobytes())
            texts.write(text)
            about.write(line)
            digest.update(content)
            held += len(text)
            described += len(line)
    save_array(stage.path(unit, "bounds.npy"), np.array(bounds, np.uint64).reshape(-1, 2))
    save_array(stage.path(unit, "chars.npy"), np.array(chars, np.uint32))
    save_array(stage.path(unit, "docs.npy"), np.array(documents, np.uint64).reshape(-1, 4))
    files = [stage.path(unit, suffix).name for suffix in ("text", "docs.jsonl", "bounds.npy", "chars.npy", "docs.npy")]
    facts = {
        "documents": len(documents) // 4, "chunks": len(chars), "bytes": held, "chars": sum(chars),
        "sources": list(names), "digest": digest.hexdigest(),
    }  # fmt: skip
    stage.finish(unit, files, facts)
