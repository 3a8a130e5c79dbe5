"""The stage `mine`: the hard negatives of each meta-chunk of each seed, in units of seeds.

NNNNN.ids.npy uint32 and NNNNN.scores.npy float32 hold the rankings one after another, NNNNN.ends.npy where each ends:
one for each chunk of each seed of the unit, in order. Left out are chunks of the seed itself, those below the least
similarity, and those that share word sequences with any meta-chunk of the seed: what stood between m_i and m_j would
then tell m_j's words. Sketches say which might; all that becomes a negative is compared with the whole sample later.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.methods.nextlong.duplicates import Suspects
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.search import Searcher
from llmtool.methods.nextlong.shingles import Shingles
from llmtool.methods.nextlong.store import Store

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
SPARE = 64


@dataclass(frozen=True)
class Pool:
    """What mining looks chunks up in: the index' flags (0: may be a negative), sketches, shingles."""

    embedded: Embedded
    flags: npt.NDArray[np.uint8]
    shingles: Shingles
    suspects: Suspects


def depth(target: int, chars_per_token: float, mean_chars: float, metas: int) -> int:
    """Rankings this long serve a seed even if all its meta-chunks find the same chunks, some of them its own."""
    return int(1.25 * target * chars_per_token / max(1.0, mean_chars)) + metas + SPARE


def mine_unit(
    stage: Stage,
    store: Store,
    searcher: Searcher,
    pool: Pool,
    seeds: I64,
    size: int,
    floor: float,
    unit: int,
) -> None:
    """Write one unit of `size` seeds; floor: the least inner product of a negative."""
    chosen = seeds[unit * size : (unit + 1) * size]
    target, ratio = stage.settings["target"], stage.settings["chars_per_token"]
    mean = store.facts["chars"] / store.chunks
    left: Counter[str] = Counter()
    ids: list[I64] = []
    scores: list[F32] = []
    may = np.zeros(store.chunks, np.bool_)  # set for a seed at a time, and cleared behind it
    batches: list[list[int]] = [[]]  # so many meta-chunks at once that no tile of scores is large
    for seed in chosen.tolist():
        held = sum(int(store.first[s + 1] - store.first[s]) for s in batches[-1])
        if held > 1024:
            batches.append([])
        batches[-1].append(seed)
    for batch in batches:
        metas = np.concatenate([np.arange(store.first[s], store.first[s + 1]) for s in batch]) if batch else None
        if metas is None:
            continue
        depths = [depth(target, ratio, mean, int(store.first[s + 1] - store.first[s])) for s in batch]
        found = iter(searcher.search(metas, min(store.chunks, max(depths))))
        for seed, k in zip(batch, depths, strict=True):
            own = range(int(store.first[seed]), int(store.first[seed + 1]))
            rankings = [next(found) for _ in own]
            rankings = [(numbers[products >= floor], products[products >= floor]) for numbers, products in rankings]
            allowed = _allowed(rankings, own, pool, stage.settings["max_overlap"], left)
            may[allowed] = True
            for numbers, products in rankings:
                kept = may[numbers]
                ids.append(numbers[kept][:k])
                scores.append(products[kept][:k])
            may[allowed] = False
    ends = np.cumsum([len(numbers) for numbers in ids], dtype=np.int64)
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids.npy": np.concatenate(ids).astype(np.uint32) if ids else np.zeros(0, np.uint32),
        "scores.npy": np.concatenate(scores).astype(np.float32) if ids else np.zeros(0, np.float32),
        "ends.npy": ends,
    }
    for suffix, array in arrays.items():
        save_array(stage.path(unit, suffix), array)
    negatives = int(ends[-1]) if len(ends) else 0
    facts = {"seeds": len(chosen), "metas": len(ids), "negatives": negatives, "left_out": dict(left)}
    stage.finish(unit, [stage.path(unit, suffix).name for suffix in arrays], facts)


def _allowed(
    rankings: list[tuple[I64, F32]],
    own: range,
    pool: Pool,
    most: float,
    left: Counter[str],
) -> I64:
    """Which of the chunks found for a seed may be its negatives, sorted."""
    found: I64 = np.unique(np.concatenate([numbers for numbers, _ in rankings]))
    mine = (found >= own.start) & (found < own.stop)
    found = found[~mine]
    clean = pool.flags[found] == 0
    left["held out"] += int((~clean).sum())
    found = found[clean]
    if most < 1 and len(found):
        metas = np.arange(own.start, own.stop)
        embedded = pool.embedded
        likely, sure = pool.suspects(
            embedded.sketches.rows(metas), embedded.sizes.rows(metas), embedded.sketches.rows(found),
            embedded.sizes.rows(found),
        )  # fmt: skip
        doubtful = found[likely & ~sure]
        pool.shingles.clear()
        same = doubtful[pool.shingles.close(doubtful.tolist(), metas.tolist())] if len(doubtful) else doubtful
        same = np.concatenate([same, found[sure]])
        left["copy of a meta-chunk"] += len(same)
        found = found[~np.isin(found, same)]
    return found


class Mined:
    """The rankings of one unit, by seed."""

    def __init__(self, stage: Stage, store: Store, seeds: I64, unit: int) -> None:
        self._ids = map_array(stage.path(unit, "ids.npy"))
        self._scores = map_array(stage.path(unit, "scores.npy"))
        self._ends = [0, *np.asarray(map_array(stage.path(unit, "ends.npy"))).tolist()]
        counts = [int(store.first[seed + 1] - store.first[seed]) for seed in seeds.tolist()]
        starts = np.cumsum([0, *counts]).tolist()
        self._rows = {seed: (a, b) for seed, a, b in zip(seeds.tolist(), starts, starts[1:], strict=False)}

    def rankings(self, seed: int) -> list[tuple[list[int], list[float]]]:
        """For each meta-chunk of a seed its negatives, best first, and their inner products."""
        first, last = self._rows[seed]
        places = [(self._ends[row], self._ends[row + 1]) for row in range(first, last)]
        return [(self._ids[a:b].tolist(), self._scores[a:b].tolist()) for a, b in places]
