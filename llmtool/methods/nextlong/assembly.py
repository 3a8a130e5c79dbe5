"""The stage `assemble`: samples of exactly T tokens, in units of seeds; what cannot become one is counted by reason."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.json_file import dumps
from llmtool.methods.nextlong import planning
from llmtool.methods.nextlong.building import Builder, Sample
from llmtool.methods.nextlong.chance import stable_hash
from llmtool.methods.nextlong.mining import Mined
from llmtool.methods.nextlong.planning import Position, Segment
from llmtool.methods.nextlong.shingles import Present, Shingles
from llmtool.methods.nextlong.store import Store

I64 = npt.NDArray[np.int64]
Plan = Literal["exact", "paper"]
RETRIES = ((0, 0), (32, 64), (256, 512), (1024, 2048))
"""(reserve, beyond) of planning.exact: joined texts differ from their parts by a token a segment at most."""


class Samples(Protocol):
    """A method: from the seed of each sample to its segments."""

    name: str

    def document(self, seed: int) -> int:
        """The document that the sample is named after."""
        ...

    def name_of(self, seed: int) -> tuple[int, ...]:
        """What the sample's id hangs on."""
        ...

    def sample(self, seed: int) -> Sample | str:
        """The sample, or why there is none."""
        ...


@dataclass
class NExtLong:
    """The method's samples of one unit of seeds."""

    store: Store
    builder: Builder
    tokens: npt.NDArray[np.uint32]
    mined: Mined
    plan: Plan = "exact"
    position: Position = "head"
    seed: int = 0
    size: int = 2048
    chars_per_token: float = 4.0
    keep_long: bool = False
    caps: Mapping[int, float] = field(default_factory=dict)
    max_overlap: float = 0.1
    name: str = "nextlong"

    def __post_init__(self) -> None:
        self.shingles = Shingles(self.store, self.max_overlap)

    def document(self, seed: int) -> int:
        """The seed itself."""
        return seed

    def name_of(self, seed: int) -> tuple[int, ...]:
        """The seed's key."""
        return (int(self.store.keys[seed]),)

    def sample(self, seed: int) -> Sample | str:
        """See Samples."""
        first, stop = int(self.store.first[seed]), int(self.store.first[seed + 1])
        metas = list(range(first, stop))
        costs = self.tokens[first:stop]
        target = self.builder.target
        if int(costs.max()) > target:
            return "a chunk is longer than the target"
        if int(costs.sum()) >= target:
            if not self.keep_long:
                return "reaches the target by itself (--keep-long takes it)"
            whole = self.builder.build([Segment(first, "meta", stop=stop)])
            return whole or "too short when joined"
        found = self.mined.rankings(seed)
        self.shingles.clear()
        if self.max_overlap < 1:
            self.shingles.prepare(metas)
        return self._by_formula(seed, metas, found) if self.plan == "paper" else self._by_budget(seed, metas, found)

    def _cost(self, chunk: int) -> int:
        return int(self.tokens[chunk])

    def _shares(self, room: int) -> planning.Shares:
        return planning.shares_of(self.caps, room, lambda chunk: int(self.store.source[self.store.document_of(chunk)]))

    def _present(self, metas: list[int]) -> Present:
        return Present(self.shingles, metas)

    def _draw(self, seed: int) -> random.Random:
        return random.Random(stable_hash(self.seed, "position", int(self.store.keys[seed])))

    def _by_budget(self, seed: int, metas: list[int], found: list[tuple[list[int], list[float]]]) -> Sample | str:
        room = self.builder.target - sum(map(self._cost, metas))
        for reserve, beyond in RETRIES:
            try:
                groups = planning.exact(
                    metas, found, self._cost, self.builder.target, self._shares(room), self._present(metas),
                    reserve=reserve, beyond=beyond,
                )  # fmt: skip
            except planning.Dropped as why:
                return str(why)
            segments = planning.arrange(groups, self.position, self._draw(seed), close=True)
            sample = self.builder.build(segments)
            if sample and whole_metas(sample) == len(metas):
                return sample
        return "the last meta-chunk does not fit"

    def _by_formula(self, seed: int, metas: list[int], found: list[tuple[list[int], list[float]]]) -> Sample | str:
        characters = int(self.store.lengths(metas[0], metas[-1] + 1).sum())
        room = self.builder.target - sum(map(self._cost, metas))
        groups = planning.paper(
            metas, found, self.builder.target, characters, self.size, self.chars_per_token, self._shares(room),
            self._present(metas), self._cost,
        )  # fmt: skip
        segments = planning.arrange(groups, self.position, self._draw(seed), close=False)
        return self.builder.build(segments) or "shorter than the target"


def whole_metas(sample: Sample) -> int:
    """Meta-chunks that lie whole inside the target: a last one that ends with the text may be cut."""
    ends = [end for segment, (_, end) in zip(sample.segments, sample.tokens.tolist(), strict=True)
            if segment.role == "meta"]  # fmt: skip
    cut = bool(ends) and ends[-1] >= len(sample.ids) - sample.behind and sample.segments[-1].role == "meta"
    return len(ends) - cut


def assemble_unit(stage: Stage, method: Samples, builder: Builder, seeds: I64, *, text: bool, unit: int) -> None:
    """Write NNNNN.jsonl and, for formats of ids, NNNNN.ids.npy [samples, T]."""
    rejects: Counter[str] = Counter()
    rows: list[npt.NDArray[np.uint32]] = []
    accepted = 0
    seed_number = stage.settings["seed"]
    with atomic_file(stage.path(unit, "jsonl")) as file:
        for seed in seeds.tolist():
            made = method.sample(seed)
            if isinstance(made, str):
                rejects[made] += 1
                continue
            document = method.document(seed)
            name = f"{stable_hash(seed_number, method.name, *method.name_of(seed)):016x}"
            row = builder.row(made, name, document, method.name, text=text)
            file.write(dumps(row, ensure_ascii=False).encode() + b"\n")
            if not text:
                rows.append(made.ids)
            accepted += 1
    names = [stage.path(unit, "jsonl").name]
    if not text:
        ids = np.stack(rows) if rows else np.zeros((0, builder.row_target), np.uint32)
        save_array(stage.path(unit, "ids.npy"), ids)
        names.append(stage.path(unit, "ids.npy").name)
    stage.finish(unit, names, {"seeds": len(seeds), "accepted": accepted, "rejects": dict(rejects)})
