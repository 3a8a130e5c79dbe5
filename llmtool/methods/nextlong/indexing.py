"""The stage `index`, and what searches it: exact, faiss' inverted files with exact scores, or BM25."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.methods.nextlong import copies
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.hardness import random_pairs
from llmtool.methods.nextlong.search import Flat, Searcher
from llmtool.methods.nextlong.store import Store

I64 = npt.NDArray[np.int64]
IndexKind = Literal["auto", "flat", "ivf-sq8", "ivf-pq", "bm25"]
EXACT_UP_TO = 200_000


def choose(kind: IndexKind, embedded: Embedded, console: Console) -> IndexKind:
    """The kind that `auto` stands for; what was chosen is said."""
    from importlib.util import find_spec

    if embedded.embedder == "bm25":
        if kind not in ("auto", "bm25"):
            raise UserError(f"--index {kind} needs vectors", hint="BM25 is its own index: leave --index out")
        return "bm25"
    chunks = len(embedded.sketches)
    if kind == "auto":
        kind = "flat" if chunks <= EXACT_UP_TO else "ivf-sq8"
        if kind != "flat" and find_spec("faiss") is None:
            console.warn(f"faiss is not installed: exact search over {chunks:,} chunks, hours rather than minutes "
                         "(pip install 'llmtool[index]')")  # fmt: skip
            kind = "flat"
        console.info(f"index: {kind}" + (" (exact search, numpy)" if kind == "flat" else ""))
    if kind == "bm25":
        raise UserError("--index bm25 goes with --embedder bm25")
    if kind != "flat":
        require("faiss", extra="index", why=f"for --index {kind}")
    return kind


def build(stage: Stage, directory: Path, merged: Stage, means: Means) -> None:
    """Make the index over what may be a negative; the exact one is the vectors themselves. merged: the copies."""
    kind, seed = stage.settings["index"], stage.settings["seed"]
    store, embedded = Store(directory), Embedded(directory)
    pool = copies.flags(directory, embedded, stage=merged) == 0
    if kind == "bm25":
        from llmtool.methods.nextlong.bm25 import Bm25
        from llmtool.methods.nextlong.bm25 import build as build_bm25

        facts = build_bm25(stage, store, pool, means.console)
        pairs = random_pairs(Bm25(stage, store), store, pool, seed)
    else:
        pairs = random_pairs(Flat(embedded.vectors), store, pool, seed)
        facts = {"units": 0, "kind": kind, "recall_at_64": 1.0}
        if kind != "flat":
            from llmtool.methods.nextlong.inverted import build as build_inverted

            facts = build_inverted(stage, directory, pool, kind, seed, means)
    save_array(stage.directory / "random_pairs.npy", np.array(pairs, np.float32))
    stage.seal({**facts, "chunks": int(pool.sum())})


def searcher(directory: Path, store: Store, embedded: Embedded) -> Searcher:
    """Opens the index of a work directory."""
    stage = Stage.existing(directory / "index", "llmtool data index")
    kind: Any = stage.settings["index"]
    if kind == "bm25":
        from llmtool.methods.nextlong.bm25 import Bm25

        return Bm25(stage, store)
    if kind == "flat":
        return Flat(embedded.vectors, copies.flags(directory, embedded) == 0)
    from llmtool.methods.nextlong.inverted import Inverted

    return Inverted(stage, embedded.vectors)
