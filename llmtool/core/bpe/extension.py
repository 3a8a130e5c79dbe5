"""A tokenizer with more tokens: byte-pair encoding that goes on where the tokenizer's own merges end.

Text is cut by the tokenizer's own normalizer, added tokens and pre-tokenizer, and encoded by its own merges; over these
sequences of tokens the ordinary merge loop goes on. New merges come after all old ones, new ids after all old ids.

While every merge makes a token that is new, no old merge can use its product, so a text's encoding is its old encoding
with the new merges on top. Hence text that holds no new pair keeps its ids, and the first n of N added tokens are what
adding n would have given: one training answers for every cut-off. `definition` below is the literal form.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from llmtool.core.bpe import engine, reference
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import Merge
from llmtool.core.bpe.engine import PieceCounts
from llmtool.core.bpe.policy import Allows, Start, Trained, TrainingPolicy
from llmtool.core.bpe.reference_encoding import model_units
from llmtool.core.bpe.settings import MAX_TOKEN_BYTES
from llmtool.core.bpe.vocabulary import Vocabulary
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted


def definition(
    base: Definition, pieces: Mapping[bytes, int], added: int, min_frequency: int, longest: int, allows: Allows
) -> list[tuple[int, int, int]]:
    """The new merges, by definition: encode each piece, then recount and merge. Slow; the tests compare with it."""
    sequences = [(run, count) for piece, count in sorted(pieces.items()) for run in model_units(base, piece)]
    units = base.vocabulary.units
    return reference.train(Start(units, sequences), len(units) + added, min_frequency, longest, allows)


@dataclass(frozen=True)
class Room:
    """How many ids there may be.

    wanted: tokens to add. multiple: all ids together are rounded down to one. rows: of the embedding that must hold
    them; None where it may grow.
    """

    wanted: int
    multiple: int = 1
    rows: int | None = None

    def added(self, base: Definition, made: int | None = None) -> int:
        """Tokens to add to this tokenizer; made: fewer were found."""
        first = base.vocabulary.id_limit
        limit = first + (self.wanted if made is None else made)
        if self.rows is not None:
            limit = min(limit, self.rows)
        return limit // self.multiple * self.multiple - first

    def check(self, base: Definition) -> int:
        """How many to train; refuses room for none."""
        added = self.added(base)
        if added > 0:
            return added
        first = base.vocabulary.id_limit
        bounds = [f"{first:,} ids"]
        if self.rows is not None:
            bounds.append(f"{self.rows:,} rows")
        if self.multiple > 1:
            bounds.append(f"multiples of {self.multiple:,}")
        what = f"no room for one more token: {', '.join(bounds)}"
        raise UserError(what, hint="a larger --add, a smaller --multiple, or no --fit-rows")


@dataclass(frozen=True)
class Extension:
    """What was found for a tokenizer. added: how many of the new units are kept, in the order of their making.

    wanted: as many as there was room for. outside, characters: symbols of the text that are no unit, and all.
    """

    base: Definition
    trained: Trained
    policy: TrainingPolicy
    algorithm: str
    added: int
    wanted: int
    outside: int = 0
    characters: int = 0

    @property
    def ran_out(self) -> bool:
        """Whether the text held no more pairs than were merged."""
        return len(self.trained.merges) - len(self.trained.scaffolds) < self.wanted

    @property
    def outside_share(self) -> float:
        """Share of the text's characters that no new token can hold."""
        return self.outside / self.characters if self.characters else 0.0

    @property
    def nested(self) -> bool:
        """Whether fewer tokens are the first of these: not where units that have been made may go again."""
        return not self.trained.scaffolds

    @cached_property
    def units(self) -> list[bytes]:
        """The bytes of all units, old and new."""
        units = list(self.base.vocabulary.units)
        for left, right, _ in self.trained.merges:
            units.append(units[left] + units[right])
        return units

    @cached_property
    def ids(self) -> dict[int, int]:
        """Id of each new unit that has one: counted on from the largest that there was."""
        first, limit = len(self.base.vocabulary.units), self.base.vocabulary.id_limit
        normal = [unit for unit in range(first, len(self.units)) if unit not in self.trained.scaffolds]
        return {unit: limit + place for place, unit in enumerate(normal[: self.added])}

    def definition(self) -> Definition:
        """The tokenizer with the new tokens."""
        return self.first(self.added)

    def first(self, added: int) -> Definition:
        """The tokenizer with the first so many of them."""
        base, vocabulary = self.base, self.base.vocabulary
        kept = len(self.trained.merges) if not self.nested else added
        merges = [*vocabulary.merges, *self.trained.merges[:kept]]
        size = len(vocabulary.units) + kept
        parts = self.policy.parts(self.trained)
        emit = list(vocabulary.emit)
        for unit in range(len(vocabulary.units), size):
            own = (self.ids[unit],) if unit in self.ids else tuple(i for part in parts[unit] for i in self._emit(part))
            emit.append(own)
        extended: Vocabulary = replace(vocabulary, units=self.units[:size], merges=merges, emit=emit)
        facts = {
            "extended_from": base.fingerprint(),
            "added": added,
            "scaffolds": len(self.trained.scaffolds),
            "vocab_size": extended.size,
        }
        return replace(
            base, vocabulary=extended, algorithm=self.algorithm if self.trained.scaffolds else base.algorithm,
            training={**base.training, **facts},
        )  # fmt: skip

    def _emit(self, unit: int) -> tuple[int, ...]:
        return (self.ids[unit],) if unit in self.ids else self.base.vocabulary.emit[unit]

    def rows(self) -> Iterable[tuple[int, int, bytes, bytes, bytes, int]]:
        """(rank, id, token, left, right, count) of each new token; count: of the pair when it was merged."""
        merged = zip(self.trained.merges, self.trained.frequencies, strict=True)
        for rank, ((left, right, result), count) in enumerate(merged):
            if result in self.ids:
                yield rank, self.ids[result], self.units[result], self.units[left], self.units[right], count

    def unreachable(self) -> list[bytes]:
        """New tokens whose own bytes are cut otherwise: none, or a fault."""
        extended = self.definition()
        cut = Merge().cutter(replace(extended, encoder="merge"))
        return [self.units[unit] for unit in self.ids if cut(self.units[unit]) != [unit]]

    def at_cutoffs(self, counts: Counter[int], cutoffs: Sequence[int]) -> list[Counter[int]]:
        """Occurrences of each id in a text had only so many tokens been added, from those with all of them.

        Undoing a merge whose token occurs c times leaves c more of each part: the encodings are nested.
        """
        first, limit = len(self.base.vocabulary.units), self.base.vocabulary.id_limit
        counts = Counter(counts)
        id_of = {unit: ids[0] for unit, ids in enumerate(self.base.vocabulary.emit) if len(ids) == 1} | self.ids
        found: dict[int, Counter[int]] = {}
        wanted = set(cutoffs)
        for added in range(self.added, -1, -1):
            if added in wanted:
                found[added] = Counter({number: count for number, count in counts.items() if count})
            if added:
                left, right, _ = self.trained.merges[added - 1]
                times = counts.pop(limit + added - 1, 0)
                assert self.ids[first + added - 1] == limit + added - 1
                for part in (left, right) if times else ():
                    counts[id_of[part]] += times
        return [found[added] for added in cutoffs]


def extend(
    base: Definition,
    counts: PieceCounts,
    policy: TrainingPolicy,
    room: Room,
    *,
    algorithm: str = "bpe",
    min_frequency: int = 2,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    allows: Allows,
    progress: Callable[[int], None] = lambda _: None,
) -> Extension:
    """Find the tokens to add; counts are `engine.own_pieces` of the tokenizer.

    Fewer are added than there is room for where no other pair occurs min_frequency times.
    """
    if not base.vocabulary.merges and base.encoder != "merge":
        what = "the tokenizer has no merges to go on from"
        raise UserError(what, hint=f"its encoder is {base.encoder!r}: extend the file that it was trained as")
    wanted = room.check(base)
    if counts.pieces == 0:
        raise UserError("the corpus holds no text", hint="nothing to learn from: check the inputs and --field")
    trained = engine.extend(counts, base, policy, wanted, min_frequency, max_token_bytes, progress, allows)
    made = len(trained.merges) - len(trained.scaffolds)
    added = room.added(base, made)
    outside = symbols_outside(base, counts)
    if added <= 0:
        what = f"{counted(made, 'token')} found" if made else f"no new pair occurs {times(min_frequency)}"
        said = f"; {outside_words(base, *outside)}" if outside[0] else ""
        raise UserError(f"{what}: nothing to add{said}", hint="more text, or a lower --min-count or --multiple")
    extension = Extension(base, trained, policy, algorithm, added, wanted, *outside)
    if not extension.nested and added < made:
        what = f"{counted(made, 'token')} found, not {wanted:,}, and of scaffolds the last cannot be left out"
        raise UserError(what, hint="more text, a lower --min-count, or no --multiple")
    return extension


def symbols_outside(base: Definition, counts: PieceCounts) -> tuple[int, int]:
    """Characters (bytes, in an alphabet of these) that are no unit, and all of them: (0, 0) where every one is.

    What an unknown symbol is written as, an unknown token or a token for each of its bytes, is no unit: merges end at
    it on both sides, so no new token holds it.
    """
    if base.spells_bytes:
        return 0, 0
    units, outside, characters = base.vocabulary.unit_of, 0, 0
    for piece, count in counts.items():
        symbols = base.vocabulary.symbols(piece)
        characters += count * len(symbols)
        if not (base.ignore_merges and piece in units):
            outside += count * sum(symbol not in units for symbol in symbols)
    return outside, characters


def outside_words(base: Definition, outside: int, characters: int) -> str:
    """What of a text no new token can hold, in words."""
    unknown = base.vocabulary.unknown
    become = "fall back to bytes" if unknown.byte_ids else f"are {unknown.token}" if unknown.token else "are left out"
    share = f"{outside / characters:.1%}"
    return f"{share} of the text's characters {become}: the tokenizer lacks them, and no new token can hold one"


def times(count: int) -> str:
    """How often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
