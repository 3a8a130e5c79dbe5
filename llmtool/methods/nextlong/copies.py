"""Copies are merged before the index: a chunk that another one holds is nobody's negative.

The paper assumes a corpus without duplicates, and repeated text is the worst of its strategies. `exact` merges chunks
of equal text; `near` also those of which COPY of the shingles stand in one other chunk, a longer one or, of equal
length, the one of lower number. Candidates share three bins of their sketches (21 bands of three); whether they are
copies is counted on the shingles themselves. Chunks of equal length that share COPY are found in 99.9% of the cases, a
chunk inside one of twice its length in 94%, of four times in 28%: what is left is kept apart in each sample
(--max-overlap).

NNNNN.pairs.npy [pairs, 2] of each band (the first: equal texts) and, behind them, of each block of pairs that were
looked at; copies.npy uint32 [chunks]: the chunk that stands for each, itself where it is no copy.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.methods.nextlong.duplicates import BINS, DOUBT, EMPTY, overlap, shared
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.shingles import Shingles
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.words import mix

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Dedupe = Literal["near", "exact", "none"]

COPY = 0.8
ROWS = 3
BANDS = BINS // ROWS
BLOCK = 1 << 14
"""Pairs of one unit that looks at texts."""

COPIED, HELD = 4, 8
"""The flags of a merged chunk and of one that is held out, beside those of the stage `embed`."""


def followers(keys: U64, weights: npt.NDArray[np.uint32], numbers: I64) -> I64:
    """Pairs (chunk, leader) of chunks of equal keys [pairs, 2]: the leader has most weight, then the lowest number."""
    order = np.lexsort((numbers, -weights.astype(np.int64), keys))
    keys, numbers = keys[order], numbers[order]
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    leaders = numbers[np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))]
    return np.stack([numbers[~first], leaders[~first]], 1)


def find(stage: Stage, embedded: Embedded, unit: int) -> None:
    """Write the candidates of a band; of band 0 the chunks of equal text."""
    counted = np.concatenate([np.zeros(0, np.uint32), *embedded.sizes.parts])
    numbers = np.flatnonzero((counted > 0) & (embedded.flags == 0))
    if unit == 0:
        keys = np.concatenate([np.zeros(0, np.uint64), *embedded.digests.parts])[numbers]
        pairs = followers(keys, np.zeros(len(numbers), np.uint32), numbers)
    else:
        columns = slice((unit - 1) * ROWS, unit * ROWS)
        bins = np.concatenate([np.asarray(part[:, columns]) for part in embedded.sketches.parts])[numbers]
        kept = (bins != EMPTY).any(1)
        keys = np.zeros(int(kept.sum()), np.uint64)
        for column in range(ROWS):
            keys = (keys << np.uint64(16)) | bins[kept, column].astype(np.uint64)
        pairs = _likely(followers(mix(keys), counted[numbers[kept]], numbers[kept]), embedded, counted)
    save_array(stage.path(unit, "pairs.npy"), pairs)
    stage.finish(unit, [stage.path(unit, "pairs.npy").name], {"pairs": len(pairs)})


def _likely(pairs: I64, embedded: Embedded, counted: npt.NDArray[np.uint32]) -> I64:
    """Those of which the sketches say that they may be copies."""
    kept = []
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        one, other = (embedded.sketches.rows(block[:, side]) for side in (0, 1))
        both = shared(overlap(one, other), counted[block[:, 0]], counted[block[:, 1]])
        kept.append(block[both >= (COPY - DOUBT) * counted[block[:, 0]]])
    return np.concatenate([np.zeros((0, 2), np.int64), *kept])


def look(stage: Stage, directory: Path, pairs: I64, unit: int) -> None:
    """Write those of a block of candidates that are copies."""
    shingles = Shingles(Store(directory))
    block = pairs[(unit - BANDS - 1) * BLOCK : (unit - BANDS) * BLOCK]
    kept = []
    for start in range(0, len(block), 512):
        part = block[start : start + 512].tolist()
        shingles.clear()
        shingles.prepare(chunk for pair in part for chunk in pair)
        kept += [
            (a, b) for a, b in part
            if len(np.intersect1d(shingles[a], shingles[b], assume_unique=True)) >= COPY * len(shingles[a])
        ]  # fmt: skip
    save_array(stage.path(unit, "pairs.npy"), np.array(kept, np.int64).reshape(-1, 2))
    stage.finish(unit, [stage.path(unit, "pairs.npy").name], {"pairs": len(kept)})


def settings(embedded: Embedded, kind: Dedupe) -> dict[str, Any]:
    """What decides the bytes of the stage `copies`."""
    return {"stage": "copies", "vectors": embedded.stage.fingerprint, "dedupe": kind}


def merge(stage: Stage, directory: Path, means: Means) -> None:
    """Make the stage `copies`."""
    embedded, kind = Embedded(directory), stage.settings["dedupe"]
    chunks = len(embedded.sketches)
    bands = {"none": 0, "exact": 1, "near": BANDS + 1}[kind]
    means.run(stage, range(bands), partial(_find_work, stage, directory), "looking for copies")
    equal = _pairs(stage, range(min(bands, 1)))
    of = np.arange(chunks, dtype=np.int64)
    of[equal[:, 0]] = equal[:, 1]
    exact = len(equal)
    if kind == "near":
        found = _pairs(stage, range(1, bands))
        found = found[(of[found] == found).all(1)]  # equal texts are merged already
        found = np.unique(found, axis=0)
        units = range(bands, bands + -(-len(found) // BLOCK))
        means.run(stage, units, partial(_look_work, stage, directory, found), "comparing copies")
        near = _pairs(stage, units)
        order = np.lexsort((near[:, 1], near[:, 0]))[::-1]  # of several the one of lowest number
        of[near[order, 0]] = near[order, 1]
        while (of[of] != of).any():  # what stands for a copy is itself none
            of = of[of]
    save_array(stage.directory / "copies.npy", of.astype(np.uint32))
    merged = int((of != np.arange(chunks)).sum())
    stage.seal({"chunks": chunks, "exact_copies": exact, "near_copies": merged - exact, "kept": chunks - merged})
    if merged:
        means.console.info(f"copies: {exact:,} equal and {merged - exact:,} near ones of {chunks:,} chunks merged")


def _pairs(stage: Stage, units: range) -> I64:
    return np.concatenate([np.zeros((0, 2), np.int64), *(map_array(stage.path(u, "pairs.npy")) for u in units)])


def _find_work(stage: Stage, directory: Path) -> Callable[[int], None]:
    return partial(find, stage, Embedded(directory))


def _look_work(stage: Stage, directory: Path, pairs: I64) -> Callable[[int], None]:
    return partial(look, stage, directory, pairs)


def copies(directory: Path, stage: Stage | None = None) -> npt.NDArray[np.uint32]:
    """The chunk that stands for each [chunks]. stage: one that is not in its place yet."""
    stage = stage or Stage.existing(directory / "copies", "llmtool data index")
    return np.asarray(map_array(stage.directory / "copies.npy"))


def flags(
    directory: Path, embedded: Embedded, held: npt.NDArray[np.bool_] | None = None, stage: Stage | None = None
) -> npt.NDArray[np.uint8]:
    """Why a chunk is nobody's negative: the flags of `embed`, COPIED, HELD [chunks]; 0 where it may be one.

    held: chunks of documents that are held out [chunks]; what stands for a copy of one, or is a copy, is held out too.
    stage: as for `copies`.
    """
    of = copies(directory, stage)
    found = embedded.flags | np.where(of != np.arange(len(of)), COPIED, 0)
    if held is not None:
        leaders = np.zeros(len(of), np.bool_)
        leaders[of[held]] = True
        found |= np.where(held | leaders[of], HELD, 0)
    return np.asarray(found, np.uint8)
