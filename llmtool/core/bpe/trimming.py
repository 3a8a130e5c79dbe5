"""A tokenizer with fewer tokens, exactly: text whose encoding holds no removed token keeps its encoding.

By merges only a *leaf* may go, a token that no merge joins: once made it stays in the encoding, so where it is not, its
merge was never made, and nothing misses it. The rarest leaf goes first and leaves its count to its two parts, which may
be leaves then. The encoder `lbpe` takes tokens by their text, the longest first, and needs no merges: any token may go,
for one that is not taken keeps no other from being taken.

Symbols (bytes, characters), added tokens, entries that no text is cut into, and what scaffolds are written as stay.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import merge
from llmtool.core.bpe.vocabulary import Unknown, Vocabulary, encode_text, string_to_token
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GONE = -1


@dataclass(frozen=True)
class Trimmed:
    """What is left. removed: ids that went, in the order of their going, with the count that each had then."""

    definition: Definition
    base: Definition
    removed: list[tuple[int, int]]
    new_ids: dict[int, int]

    @cached_property
    def map(self) -> "NDArray[np.int64]":
        """New id of each old one [old rows], GONE where it has none."""
        import numpy as np

        found = np.full(self.base.vocabulary.id_limit, GONE, np.int64)
        found[list(self.new_ids)] = list(self.new_ids.values())
        return found


@dataclass(frozen=True)
class Goal:
    """When to stop: at so many ids (a multiple, rounded up), or at the first token that is not rarer than `rarer`."""

    to: int | None = None
    rarer: int | None = None
    keep: frozenset[bytes] | None = None
    multiple: int = 1

    def target(self, base: Definition) -> int:
        """Ids that stay at least."""
        if self.to is None:
            return 0
        return -(-self.to // self.multiple) * self.multiple


def trim(base: Definition, counts: Mapping[int, int], goal: Goal, by_text: bool = False) -> Trimmed:
    """Remove tokens until the goal is met. counts: occurrences of each id in text. by_text: the encoder is `lbpe`."""
    leaves = Leaves(base, by_text)
    held = Counter({unit: counts.get(ids[0], 0) for unit, ids in enumerate(base.vocabulary.emit) if len(ids) == 1})
    if goal.keep is not None:
        leaves.pinned |= {base.vocabulary.unit_of[token] for token in goal.keep}
    target = goal.target(base)
    left, removed = base.vocabulary.size, []
    waiting = [(held[unit], -unit, unit) for unit in leaves.first()]
    heapify(waiting)
    while waiting and left > target:
        count, _, unit = heappop(waiting)
        if held[unit] != count:  # it has got some from a longer one since
            heappush(waiting, (held[unit], -unit, unit))
            continue
        if goal.rarer is not None and count >= goal.rarer:
            break
        removed.append((base.vocabulary.emit[unit][0], count))
        left -= 1
        for part in leaves.parts(unit):
            held[part] += count
        for freed in leaves.remove(unit):
            heappush(waiting, (held[freed], -freed, freed))
    if goal.to is not None and left > target:
        what = f"{left:,} ids are left: no other token may go"
        why = (
            "tokens that merges join stay; --encoder lbpe needs none"
            if not by_text
            else "symbols and added tokens stay"
        )
        raise UserError(what, where=f"--to {goal.to}", hint=why)
    return _without(base, removed, by_text)


class Leaves:
    """Which units may go, and what text falls into without them."""

    def __init__(self, base: Definition, by_text: bool) -> None:
        vocabulary = base.vocabulary
        self._vocabulary, self._by_text = vocabulary, by_text
        self._ranks = {(left, right): (rank, made) for rank, (left, right, made) in enumerate(vocabulary.merges)}
        self._uses: Counter[int] = Counter()
        self._made_by: dict[int, list[tuple[int, int]]] = {}
        for left, right, result in vocabulary.merges:
            self._made_by.setdefault(result, []).append((left, right))
            if not by_text:
                self._uses.update({left, right})
        self.pinned = _pinned(vocabulary)
        self._left = {unit for unit in range(len(vocabulary.units)) if len(vocabulary.emit[unit]) == 1}

    def first(self) -> Iterable[int]:
        """Those that may go at the start."""
        return [unit for unit in range(len(self._vocabulary.units)) if self._may_go(unit)]

    def _may_go(self, unit: int) -> bool:
        return unit in self._left and unit not in self.pinned and not self._uses[unit]

    def remove(self, unit: int) -> list[int]:
        """Take one out; the units that may go since."""
        self._left.discard(unit)
        if self._by_text:
            return []
        freed = []
        for pair in self._made_by.get(unit, ()):
            self._uses.subtract({*pair})
            freed += [part for part in dict.fromkeys(pair) if self._may_go(part)]
        return freed

    def parts(self, unit: int) -> list[int]:
        """What its text is cut into without it, as far as these are tokens; for the order of going alone."""
        if self._by_text:
            return self._longest_first(self._vocabulary.units[unit], without=unit)
        found = self._made_by.get(unit)
        if found is not None:
            return list(found[0])
        symbols = [
            self._vocabulary.unit_of.get(symbol) for symbol in self._vocabulary.symbols(self._vocabulary.units[unit])
        ]
        return merge([symbol for symbol in symbols if symbol is not None], self._ranks)

    def _longest_first(self, text: bytes, without: int | None = None) -> list[int]:
        for size in range(len(text), 0, -1):
            for start in range(len(text) - size + 1):
                unit = self._vocabulary.unit_of.get(text[start : start + size])
                if unit is not None and unit != without and unit in self._left:
                    before, after = text[:start], text[start + size :]
                    return [*self._longest_first(before), unit, *self._longest_first(after)]
        return []


def _pinned(vocabulary: Vocabulary) -> set[int]:
    """Units that never go: symbols, added tokens, what scaffolds and unknown symbols are written as."""
    ids = {*vocabulary.added_ids.values(), *vocabulary.unknown_ids}
    ids.update(number for unit in vocabulary.scaffolds for number in vocabulary.emit[unit])
    return {
        unit for unit, emitted in enumerate(vocabulary.emit)
        if ids & {*emitted} or len(vocabulary.symbols(vocabulary.units[unit])) == 1
    }  # fmt: skip


def _without(base: Definition, removed: list[tuple[int, int]], by_text: bool) -> Trimmed:
    """The definition without some ids, the others numbered densely in their order."""
    vocabulary = base.vocabulary
    gone = {number for number, _ in removed}
    stay = sorted(number for number in vocabulary.tokens if number not in gone)
    new_ids = {number: place for place, number in enumerate(stay)}
    units = [unit for unit, ids in enumerate(vocabulary.emit) if not gone & {*ids}]
    if by_text:
        units = [unit for unit in units if len(vocabulary.emit[unit]) == 1]
    place = {unit: number for number, unit in enumerate(units)}
    merges = [
        (place[left], place[right], place[made])
        for left, right, made in vocabulary.merges
        if left in place and right in place and made in place
    ]
    trimmed = replace(
        vocabulary,
        units=[vocabulary.units[unit] for unit in units],
        merges=[] if by_text else merges,
        emit=[tuple(new_ids[number] for number in vocabulary.emit[unit]) for unit in units],
        added=tuple(replace(token, id=new_ids[token.id]) for token in vocabulary.added),
        unused={text: new_ids[number] for text, number in vocabulary.unused.items()},
        unknown=_renumbered(vocabulary.unknown, new_ids),
    )
    facts = {"trimmed_from": base.fingerprint(), "removed": len(removed), "vocab_size": trimmed.size}
    definition = replace(
        base, vocabulary=trimmed, post_processor=_around(base.post_processor, new_ids),
        training={**base.training, **facts},
    )  # fmt: skip
    return Trimmed(definition.with_encoder("lbpe") if by_text and base.encoder != "lbpe" else definition,
                   base, removed, new_ids)  # fmt: skip


def _renumbered(unknown: Unknown, new_ids: Mapping[int, int]) -> Unknown:
    byte_ids = {byte: new_ids[number] for byte, number in unknown.byte_ids.items()}
    return replace(unknown, id=None if unknown.id is None else new_ids[unknown.id], byte_ids=byte_ids)


def _around(component: Any, new_ids: Mapping[int, int]) -> Any:
    """A post_processor with its ids renumbered; what it names are added tokens, which all stay."""
    match component:
        case {"type": "Sequence", "processors": [*steps]}:
            return {**component, "processors": [_around(step, new_ids) for step in steps]}
        case {
            "type": "RobertaProcessing" | "BertProcessing",
            "cls": [str(first), int(cls)],
            "sep": [str(last), int(sep)],
        }:
            return {**component, "cls": [first, new_ids[cls]], "sep": [last, new_ids[sep]]}
        case {"type": "TemplateProcessing", "special_tokens": dict(named)}:
            ids: Callable[[Any], list[int]] = lambda entry: [new_ids[number] for number in entry["ids"]]  # noqa: E731
            return {**component, "special_tokens": {name: {**e, "ids": ids(e)} for name, e in named.items()}}
    return component


def read_keep(lines: Iterable[str], base: Definition, where: str) -> frozenset[bytes]:
    """Tokens of a list, each as its text or as tokenizer.json spells it; refused where none is a token."""
    units = base.vocabulary.unit_of
    added = base.vocabulary.added_ids
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text or text in added:
            continue
        spellings = [encode_text(text)]
        with suppress(KeyError):
            spellings.append(string_to_token(text))
        token = next((spelling for spelling in spellings if spelling in units), None)
        if token is None:
            what = f"{text!r:.100} is no token of the tokenizer"
            raise UserError(what, where=f"{where}:{number}", hint="one a line: its text, or as tokenizer.json has it")
        found.add(token)
    return frozenset(found)
