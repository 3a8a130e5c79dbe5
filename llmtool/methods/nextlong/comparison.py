"""The baselines' samples, through the same units and the same output as NExtLong's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.methods.nextlong.assembly import assemble_unit
from llmtool.methods.nextlong.baselines.concat import Concat
from llmtool.methods.nextlong.baselines.documents import Baseline, Documents
from llmtool.methods.nextlong.baselines.iclm import Iclm
from llmtool.methods.nextlong.baselines.knn import Knn
from llmtool.methods.nextlong.baselines.quest import Quest
from llmtool.methods.nextlong.building import Builder, Sample
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.planning import Segment
from llmtool.methods.nextlong.reading import total
from llmtool.methods.nextlong.recipe import Recipe
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.tokens import token_counts

BASELINES: dict[str, type[Baseline]] = {"concat": Concat, "knn": Knn, "iclm": Iclm, "quest": Quest}


def make_samples(
    directory: Path, stage: Stage, store: Store, tokenizer: BaseTokenizer, counted: Stage, recipe: Recipe,
    wanted: int, means: Means,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Make the units of `stage`; returns how many there are, and counts."""
    stage.begin(force=means.force)
    plan = stage.directory / "plan.npy"
    if not plan.exists():
        means.console.detail(f"{recipe.method}: putting {store.documents:,} documents together")
        vectors = Embedded(directory).vectors if recipe.needs_vectors else None
        corpus = Documents(store, token_counts(counted), vectors, recipe.target, recipe.seed)
        samples = BASELINES[recipe.method]().samples(corpus, wanted)
        rows = [(number, *piece) for number, pieces in enumerate(samples) for piece in pieces]
        save_array(plan, np.array(rows, np.int64).reshape(-1, 3))
    pieces = map_array(plan)
    count = int(pieces[-1, 0]) + 1 if len(pieces) else 0
    size = recipe.choice(1.0).unit_seeds()
    units = -(-count // size)
    means.run(stage, range(units), partial(_work, directory, stage, tokenizer, recipe, size), "assembling")
    facts = [stage.facts(unit) for unit in range(units)]
    rejects = total(each["rejects"] for each in facts)
    return units, {"tried": count, "rejects": rejects, "accepted": sum(each["accepted"] for each in facts)}


class Planned:
    """Samples whose documents were chosen beforehand, by number."""

    def __init__(self, name: str, builder: Builder, pieces: npt.NDArray[np.int64]) -> None:
        self.name, self._builder, self._pieces = name, builder, pieces
        self._starts = np.searchsorted(pieces[:, 0], np.arange(int(pieces[-1, 0]) + 2)).tolist()

    def _of(self, number: int) -> list[list[int]]:
        rows: list[list[int]] = self._pieces[self._starts[number] : self._starts[number + 1]].tolist()
        return rows

    def document(self, number: int) -> int:
        """The document that a sample begins with."""
        return int(self._builder.store.document_of(self._of(number)[0][1]))

    def name_of(self, number: int) -> tuple[int, ...]:
        """The keys of its documents, and where in the first one it begins."""
        store, pieces = self._builder.store, self._of(number)
        first = pieces[0][1]
        keys = [int(store.keys[store.document_of(first)]) for _, first, _ in pieces]
        return first - int(store.first[store.document_of(first)]), *keys

    def sample(self, number: int) -> Sample | str:
        """See assembly.Samples."""
        segments = [Segment(first, "document", stop=stop) for _, first, stop in self._of(number)]
        return self._builder.build(segments) or "shorter than the target"


def _work(directory: Path, stage: Stage, tokenizer: BaseTokenizer, recipe: Recipe, size: int) -> Callable[[int], None]:
    builder = Builder(Store(directory), tokenizer, recipe.target, recipe.separator, bos=recipe.bos, eos=recipe.eos)
    method = Planned(recipe.method, builder, map_array(stage.directory / "plan.npy"))
    count = len(method._starts) - 1

    def work(unit: int) -> None:
        numbers = np.arange(unit * size, min(count, (unit + 1) * size))
        assemble_unit(stage, method, builder, numbers, text=recipe.form == "jsonl", unit=unit)

    return work
