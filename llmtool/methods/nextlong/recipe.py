"""What is made of a corpus: all that decides the bytes of the samples, beside the corpus and the tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import baselines
from llmtool.methods.nextlong.assembly import Plan
from llmtool.methods.nextlong.chunking import Reading
from llmtool.methods.nextlong.copies import Dedupe
from llmtool.methods.nextlong.embedding import check_embedder
from llmtool.methods.nextlong.indexing import IndexKind
from llmtool.methods.nextlong.planning import Position
from llmtool.methods.nextlong.stages import Choice

Form = Literal["jsonl", "bin", "npy", "mds"]
SMALLEST_TARGET = 64
NEED_VECTORS = ("nextlong", "knn", "iclm")
RECIPES = {"512k": {"target": 1 << 19, "packed": 1 << 16, "packed_share": 0.67}}
"""By name what they stand for. 512k: a third of the rows one sample of 512K, the others eight of 64K, as the authors'
second stage reads its data sets (512K@33, 64K@67)."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the bytes of the samples, the corpus and the tokenizer apart."""

    target: int
    method: str
    plan: Plan
    embedder: str
    embedder_prefix: str | None
    index: IndexKind
    min_chunks: int
    position: Position
    separator: str
    samples: int | None
    tokens: int | None
    bos: bool
    eos: bool
    form: Form
    packed: int | None
    packed_share: float
    short_data: tuple[str, ...]
    short_share: float
    keep_long: bool
    max_overlap: float
    min_similarity: float | None
    dedupe: Dedupe
    holdout: float
    seed: int
    caps: Mapping[str, float]
    decontaminate: tuple[str, ...]
    decontaminate_fields: tuple[str, ...]
    ngram: int
    reading: Reading

    def check(self) -> None:
        """Refuse what cannot work before anything is read."""
        if self.target < SMALLEST_TARGET:
            raise UserError(f"--target {self.target} is too short for a sample", hint="4096, 65536, 131072")
        if self.method != "nextlong" and self.method not in baselines.NAMES:
            raise UserError(f"method {self.method!r} is not known", hint=f"nextlong, {', '.join(baselines.NAMES)}")
        if self.tokens is not None and self.samples is not None:
            raise UserError("--samples and --tokens contradict each other", hint="drop one of them")
        if self.tokens is not None and self.tokens < self.target:
            raise UserError(f"--tokens {self.tokens:,} is less than one sample of {self.target:,}")
        self._check_mixture()
        if not self.separator.isprintable() and not self.separator.isspace():
            raise UserError("--separator holds control characters")
        if self.min_chunks < 2 and self.method == "nextlong":
            raise UserError("--min-chunks 1: a single chunk carries no dependency", hint="2 or more")
        if self.method != "nextlong" and (self.decontaminate or self.caps or self.holdout):
            what = "--decontaminate" if self.decontaminate else "--cap" if self.caps else "--holdout"
            raise UserError(
                f"{what} is not done for --method {self.method}", hint="only for nextlong; filter the corpus"
            )
        check_embedder(self.embedder, self.embedder_prefix)

    def _check_mixture(self) -> None:
        if self.packed is not None and (self.packed >= self.target or self.target % self.packed):
            what = f"--packed {self.packed:,}: a row of {self.target:,} does not hold a whole number of such samples"
            raise UserError(what, hint="a divisor of --target: 65536 of 524288")
        if self.packed is not None and self.packed < SMALLEST_TARGET:
            raise UserError(f"--packed {self.packed} is too short for a sample", hint="4096, 65536")

    @property
    def mixed(self) -> bool:
        """Whether there are other rows than those of one sample."""
        return self.packed is not None or bool(self.short_data)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the rows: one sample, several packed ones, ordinary documents."""
        short = self.short_share if self.short_data else 0.0
        packed = (1 - short) * self.packed_share if self.packed else 0.0
        return 1 - short - packed, packed, short

    @property
    def needs_vectors(self) -> bool:
        """Whether the method looks at similarities."""
        return self.method in NEED_VECTORS

    def choice(self, ratio: float) -> Choice:
        """What mining needs to know."""
        return Choice(
            self.target,
            ratio,
            self.min_chunks,
            self.max_overlap,
            self.min_similarity,
            self.holdout,
            self.seed,
            self.caps,
        )
