"""Inverted files of faiss for corpora that exact search is too slow for; scores are always the exact ones.

Trained once on a sample, filled in shards of SHARD chunks by whoever has time; the shards hold no centroids. The best
of what they return together is scored exactly from the vectors and put in order of (score descending, chunk ascending),
so that their number changes nothing. nprobe is the least power of two that finds WANTED of the exact neighbours of
sampled chunks.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.extras import require
from llmtool.methods.nextlong.embedding import UNIT, Embedded
from llmtool.methods.nextlong.search import F32, I64, Flat, best
from llmtool.methods.nextlong.vectors import similarities

SHARD = 64 * UNIT
TRAINING = 64
"""Vectors a list to train on."""

WANTED, K, QUERIES = 0.97, 64, 128
OVERFETCH = {"ivf-sq8": 1.1, "ivf-pq": 4.0}


def _faiss() -> Any:
    return require("faiss", extra="index", why="for inverted files")


def _write(path: Path, index: Any) -> None:
    with atomic_file(path) as file:
        file.write(_faiss().serialize_index(index).tobytes())


def factory(kind: str, dimensions: int, lists: int) -> str:
    """The index in faiss' words; PQ takes one byte for 8 dimensions, or the next divisor."""
    if kind == "ivf-sq8":
        return f"IVF{lists},SQ8"
    parts = next(m for m in range(max(1, dimensions // 8), 0, -1) if dimensions % m == 0)
    return f"IVF{lists},PQ{parts}x8"


def build(
    stage: Stage, directory: Path, pool: npt.NDArray[np.bool_], kind: str, seed: int, means: Means
) -> dict[str, Any]:
    """Train, fill, and choose nprobe; returns what is to be known of it. pool: which chunks it holds [chunks]."""
    faiss = _faiss()
    vectors = Embedded(directory).vectors
    inside = np.flatnonzero(pool)
    count = len(inside)
    lists = 1 << max(0, int(np.log2(max(1.0, 4 * count**0.5))))
    while lists > 1 and lists * 39 > count:
        lists //= 2
    trained = stage.directory / "trained.faiss"
    if not trained.exists():
        means.console.detail(f"training {lists:,} lists")
        draw = inside[np.random.Generator(np.random.PCG64(seed)).permutation(count)[: max(256 * 39, TRAINING * lists)]]
        sample = vectors.rows(np.sort(draw)).astype(np.float32)
        index = faiss.index_factory(sample.shape[1], factory(kind, sample.shape[1], lists), faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = seed + 1
        index.cp.max_points_per_centroid = TRAINING
        for clustering in (index.cp, *([index.pq.cp] if hasattr(index, "pq") else [])):
            clustering.min_points_per_centroid = 1  # a small corpus is no reason for warnings
        faiss.omp_set_num_threads(1)  # sums over threads would make other centroids
        index.train(sample)
        _write(trained, index)
    units = range(-(-len(vectors) // SHARD))
    means.run(stage, units, partial(_fill_work, stage, directory, pool), "filling the index")
    chunks = inside[np.unique(np.linspace(0, count - 1, min(QUERIES, count)).astype(np.int64))]
    k = min(K, count)
    exact = Flat(vectors, pool).search(chunks, k)
    probes, found = 1, 0.0
    while True:
        results = Inverted(stage, vectors, probes=probes, units=len(units)).search(chunks, k)
        found = float(
            np.mean([len(np.intersect1d(a, b)) / len(a) for (a, _), (b, _) in zip(exact, results, strict=True)])
        )
        if found >= WANTED or probes >= lists:
            break
        probes *= 2
    facts = {"kind": kind, "lists": lists, "probes": probes, "recall_at_64": round(found, 4), "vectors": count}
    means.console.info(f"index: {kind}, {lists:,} lists, {probes} probed, recall@{k} {found:.3f}")
    return {"units": len(units), **facts}


def _fill_work(stage: Stage, directory: Path, pool: npt.NDArray[np.bool_]) -> Callable[[int], None]:
    return partial(_fill, stage, Embedded(directory).vectors, pool)


def _fill(stage: Stage, vectors: Sharded, pool: npt.NDArray[np.bool_], unit: int) -> None:
    faiss = _faiss()
    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(stage.directory / "trained.faiss"))
    for start in range(unit * SHARD, min(len(vectors), (unit + 1) * SHARD), UNIT):
        ids = start + np.flatnonzero(pool[start : min(len(vectors), start + UNIT)])
        index.add_with_ids(vectors.rows(ids).astype(np.float32), ids)
    count = int(index.ntotal)
    centroids, empty = index.quantizer, faiss.IndexFlatIP(index.d)
    index.own_fields, index.quantizer = False, empty  # the centroids stand in trained.faiss
    _write(stage.path(unit, "faiss"), index)
    index.own_fields, index.quantizer = True, centroids  # or nobody frees them
    stage.finish(unit, [stage.path(unit, "faiss").name], {"vectors": count})


class Inverted:
    """All shards of the index, mapped, over one table of centroids: each query looks for its lists once.

    Measured with 131,072 vectors of 256 in 1,024 lists, 16 probed: 16 shards that each search with their own centroids
    take 4.5 times as long as one index.
    """

    def __init__(self, stage: Stage, vectors: Sharded, *, probes: int | None = None, units: int | None = None) -> None:
        faiss = _faiss()
        faiss.omp_set_num_threads(1)
        self._vectors = vectors
        self._kind: str = stage.settings["index"]
        totals = {} if units is not None else stage.totals()
        numbers = range(totals["units"] if units is None else units)
        self._probes: int = probes or totals["probes"]
        self._trained = faiss.read_index(str(stage.directory / "trained.faiss"))
        self._shards = []
        for unit in numbers:
            shard = faiss.read_index(str(stage.path(unit, "faiss")), faiss.IO_FLAG_MMAP)
            shard.quantizer, shard.own_fields, shard.nprobe = self._trained.quantizer, False, self._probes
            self._shards.append(shard)

    def search(self, chunks: I64, k: int) -> list[tuple[I64, F32]]:
        """See search.Searcher; may return fewer than k. The best of all shards together are scored exactly."""
        queries = self._vectors.rows(chunks)
        wanted = int(k * OVERFETCH[self._kind]) + 16
        looked = queries.astype(np.float32)
        near, lists = self._trained.quantizer.search(looked, self._probes)
        found = [shard.search_preassigned(looked, wanted, lists, near) for shard in self._shards]
        scores, ids = (np.concatenate([each[side] for each in found], axis=1) for side in (0, 1))
        out = []
        for query, row, guessed in zip(queries, ids, scores, strict=True):
            kept = row[np.lexsort((row, -guessed))[:wanted]]
            kept = np.unique(kept[kept >= 0])
            out.append(best(similarities(query[None], self._vectors.rows(kept))[0], kept, k))
        return out
