"""Ordinary documents beside the long samples: packed into rows of T tokens, so that a model keeps what it can do.

Documents stand in the order of their keys, so shuffling files changes nothing; each begins and ends as --bos and --eos
say. One that a row has no room for goes on in the next, as a range of its own; a last row that is not full is left out.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.document import Document
from llmtool.core.corpus.encoding import Around, encode_documents
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.atomic import atomic_file
from llmtool.methods.nextlong import stages
from llmtool.methods.nextlong.building import around
from llmtool.methods.nextlong.chunking import Reading
from llmtool.methods.nextlong.duplicates import Contamination
from llmtool.methods.nextlong.recipe import Recipe
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.words import word_hashes

U32 = npt.NDArray[np.uint32]
Range = tuple[int, int, int]
"""First token, the one behind the last, document."""


def read_inputs(recipe: Recipe) -> list[dict[str, Any]]:
    """What run.json says of the files."""
    return [describe(name, Event(), read_whole=True) for name in recipe.short_data]


def pack(directory: Path, tokenizer: BaseTokenizer, recipe: Recipe, rows: int, means: Means) -> "Short":
    """At most `rows` rows of the recipe's ordinary documents; fewer where they hold no more tokens."""
    store = stages.chunk(recipe.short_data, directory / "short", _whole(recipe.reading), means)
    against = [describe(file, Event(), read_whole=True)["sha256"] for file in recipe.decontaminate]
    settings = {
        "stage": "short", "documents": stages.upstream(store), "tokenizer": tokenizer.fingerprint(), "rows": rows,
        "target": recipe.target, "bos": recipe.bos, "eos": recipe.eos, "decontaminate": against,
        "ngram": recipe.ngram if against else None, "fields": list(recipe.decontaminate_fields) if against else None,
    }  # fmt: skip
    stage = Stage(directory / f"short-{Stage(directory, settings).fingerprint[:8]}", settings)
    stage.begin(force=means.force)
    if not stage.complete:
        known = None
        if against:
            known = Contamination.read(recipe.decontaminate, recipe.ngram, recipe.decontaminate_fields)
        _write(stage, store, tokenizer, recipe, rows, known, means)
    return Short(stage, store)


def _whole(reading: Reading) -> Reading:
    """--include and --exclude choose among the corpus' files, not among these."""
    return replace(reading, include=(), exclude=())


def _write(
    stage: Stage, store: Store, tokenizer: BaseTokenizer, recipe: Recipe, rows: int, known: Contamination | None,
    means: Means,
) -> None:  # fmt: skip
    """00000.ids (u32, row after row) and 00000.ranges.npy int64 [ranges, 4]: row, first token, last, document."""
    counts: Counter[str] = Counter()
    ranges = array("q")
    row = at = 0
    bos, eos = around(tokenizer, bos=recipe.bos, eos=recipe.eos)
    documents = _documents(store, known, counts)
    encoded = encode_documents(tokenizer, documents, around=Around(bos, eos), threads=means.workers)
    with atomic_file(stage.path(0, "ids")) as file, means.console.progress("packing documents", rows, "rows") as bar:
        for number, ids in _each(encoded):
            place = 0
            while place < len(ids) and row < rows:
                taken = min(len(ids) - place, recipe.target - at)
                ranges.extend((row, at, at + taken, number))
                file.write(ids[place : place + taken].tobytes())
                place, at = place + taken, at + taken
                if at == recipe.target:
                    row, at = row + 1, 0
                    bar.advance(1)
            if row == rows:
                break
    save_array(stage.path(0, "ranges.npy"), np.array(ranges, np.int64).reshape(-1, 4))
    names = [stage.path(0, suffix).name for suffix in ("ids", "ranges.npy")]
    stage.finish(0, names, {"rows": row})
    stage.seal({"rows": row, "contaminated": counts["contaminated"]})


def _documents(store: Store, known: Contamination | None, counts: Counter[str]) -> Iterator[Document]:
    for number in range(store.documents):
        first, stop = int(store.first[number]), int(store.first[number + 1])
        text = store.passage(first, stop, 1 << 40)
        if known is not None and known(*word_hashes([text]))[0]:
            counts["contaminated"] += 1
            continue
        yield Document(text, "", number)


def _each(batches: Iterator[Any]) -> Iterator[tuple[int, U32]]:
    """(document, its ids) of batches; the reader's documents are whole, so none goes on in the next batch."""
    for batch in batches:
        ids, start = np.frombuffer(batch.ids, np.uint32), 0
        for document, end in zip(batch.documents, batch.ends, strict=True):
            yield document.row, ids[start:end]
            start = end


class Short:
    """Rows of ordinary documents."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._store = store
        totals = stage.totals()
        self.rows: int = totals["rows"]
        self.contaminated: int = totals["contaminated"]
        self.target: int = stage.settings["target"]
        self._ids = stage.path(0, "ids")
        self._ranges = map_array(stage.path(0, "ranges.npy"))
        self._starts = np.searchsorted(self._ranges[:, 0], np.arange(self.rows + 1))

    def ids(self, row: int) -> U32:
        """Ids of one row [T]."""
        with self._ids.open("rb") as file:
            file.seek(4 * self.target * row)
            return np.frombuffer(file.read(4 * self.target), np.uint32)

    def ranges(self, row: int) -> list[Range]:
        """The documents of one row."""
        rows: Sequence[list[int]] = self._ranges[self._starts[row] : self._starts[row + 1], 1:].tolist()
        return [(first, stop, number) for first, stop, number in rows]

    def about(self, document: int) -> dict[str, Any]:
        """Id, source and licence of a document."""
        facts = self._store.document(document)
        return {key: facts[key] for key in ("id", "source", "licence") if key in facts}

    def text(self, document: int) -> str:
        """All of its text."""
        first, stop = int(self._store.first[document]), int(self._store.first[document + 1])
        return self._store.passage(first, stop, 1 << 40).decode()
