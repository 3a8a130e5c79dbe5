"""The stage `mine`: the hard negatives of each meta-chunk of each seed, in units of seeds.

NNNNN.ids.npy uint32 and NNNNN.scores.npy float32 hold the rankings one after another, NNNNN.ends.npy where each ends:
one for each chunk of each seed of the unit, in order. Left out are chunks of the seed itself, contaminated ones, blank
ones, and those that share word sequences with any meta-chunk of the seed: what stood between m_i and m_j would then
tell m_j's words.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded, map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.methods.nextlong.duplicates import EMPTY, Sketches, overlap
from llmtool.methods.nextlong.search import Searcher
from llmtool.methods.nextlong.store import Store

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
SPARE = 64


def depth(target: int, chars_per_token: float, mean_chars: float, metas: int) -> int:
    """Rankings this long serve a seed even if all its meta-chunks find the same chunks, some of them its own."""
    return int(1.25 * target * chars_per_token / max(1.0, mean_chars)) + metas + SPARE


def mine_unit(
    stage: Stage,
    store: Store,
    searcher: Searcher,
    sketches: Sharded,
    flags: npt.NDArray[np.uint8],
    seeds: I64,
    size: int,
    unit: int,
) -> None:
    """Write one unit of `size` seeds."""
    chosen = seeds[unit * size : (unit + 1) * size]
    target, ratio = stage.settings["target"], stage.settings["chars_per_token"]
    mean = store.facts["chars"] / store.chunks
    left: Counter[str] = Counter()
    ids: list[I64] = []
    scores: list[F32] = []
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
            allowed = _allowed(rankings, own, sketches, flags, stage.settings["max_overlap"], left)
            for numbers, products in rankings:
                kept = np.isin(numbers, allowed) & (products > 0)
                ids.append(numbers[kept][:k])
                scores.append(products[kept][:k])
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
    sketches: Sharded,
    flags: npt.NDArray[np.uint8],
    most: float,
    left: Counter[str],
) -> I64:
    """Which of the chunks found for a seed may be its negatives, sorted."""
    found: I64 = np.unique(np.concatenate([numbers for numbers, _ in rankings]))
    mine = (found >= own.start) & (found < own.stop)
    found = found[~mine]
    clean = flags[found] == 0
    left["contaminated or blank"] += int((~clean).sum())
    found = found[clean]
    if most < 1:
        same = near_duplicates(sketches.rows(np.arange(own.start, own.stop)), sketches.rows(found), most)
        left["near-duplicate of a meta-chunk"] += int(same.sum())
        found = found[~same]
    return found


def near_duplicates(metas: Sketches, found: Sketches, most: float) -> npt.NDArray[np.bool_]:
    """Which of `found` [N, 64] overlap with any of `metas` [p, 64] by at least `most`.

    First in how many bins each equals any meta-chunk, a bound on its overlap with one; few are left to compare.
    """
    bins = np.arange(metas.shape[1], dtype=np.uint32) << np.uint32(16)
    known = np.unique((metas.astype(np.uint32) | bins)[metas != EMPTY])
    keys = found.astype(np.uint32) | bins
    hits = np.isin(keys, known) & (found != EMPTY)
    # the bins that are not empty in both are at least those filled in the candidate
    bound = hits.sum(1) / np.maximum(1, (found != EMPTY).sum(1))
    out = np.zeros(len(found), np.bool_)
    for row in np.flatnonzero(bound >= most):
        out[row] = bool((overlap(found[row], metas) >= most).any())
    return out


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
