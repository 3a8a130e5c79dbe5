"""Which chunks a sample consists of and in which order: the paper's formula, or a budget of tokens.

`exact` chooses as `reference.plan_exact` does, with what the reference leaves out: shares of sources, other positions
of the meta-chunk.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from llmtool.methods.nextlong.reference import negatives_per_chunk
from llmtool.methods.nextlong.shingles import Present

AHEAD = 32
"""Candidates whose shingles are made together, beyond those that a group is sure to ask about."""

Position = Literal["head", "tail", "random"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A chunk in a sample: rank of a negative among those of its meta-chunk, similarity to it (an inner product).

    stop: the chunk behind the last one, where a segment is a whole document (the baselines').
    """

    chunk: int
    role: Literal["meta", "negative", "document"]
    rank: int = 0
    score: float = 0.0
    stop: int = -1
    refill: bool = False
    """Whether it was found for another meta-chunk of the sample, as this one's ran dry."""

    @property
    def end(self) -> int:
        """The chunk behind the last one."""
        return self.stop if self.stop >= 0 else self.chunk + 1


Ranking = tuple[Sequence[int], Sequence[float]]
"""Negatives of a meta-chunk, best first, and their similarities."""

Group = tuple[int, list[Segment]]


@dataclass
class Shares:
    """What capped sources may still take of a sample's negatives, in tokens."""

    source_of: Callable[[int], int]
    left: dict[int, float]

    def take(self, chunk: int, cost: int) -> bool:
        """Whether the chunk may be used; it is then paid for."""
        if not self.left:
            return True
        source = self.source_of(chunk)
        if source not in self.left:
            return True
        if self.left[source] < cost:
            return False
        self.left[source] -= cost
        return True


class Dropped(Exception):  # noqa: N818 - not an error: why a seed becomes no sample
    """Why there is no plan."""


@dataclass
class Draft:
    """A sample in the making: what is in it, and what it has cost."""

    metas: Sequence[int]
    found: Sequence[Ranking]
    tokens: Callable[[int], int]
    shares: Shares
    present: Present
    room: int
    limit: int
    """Tokens of negatives before the last meta-chunk, at most."""

    def __post_init__(self) -> None:
        self.chosen: list[list[Segment]] = [[] for _ in self.metas]
        self.used = set(self.metas)
        self.spent = 0
        self.share = self.room / len(self.metas)

    def take(self, group: int, chunk: int, score: float, *, refill: bool) -> bool:
        """Put the chunk into the group, unless it is there, clashes, or is beyond its source's share."""
        cost = self.tokens(chunk)
        if chunk in self.used or self.present.clashes(chunk) or not self.shares.take(chunk, cost):
            return False
        self.used.add(chunk)
        self.present.add(chunk)
        self.chosen[group].append(Segment(chunk, "negative", len(self.chosen[group]) + 1, score, refill=refill))
        self.spent += cost
        return True

    def fill(
        self, group: int, candidates: Iterable[tuple[int, float]], budget: float, *, refill: bool
    ) -> tuple[float, float]:
        """(what the next group makes good, what this one is short of because it ran dry)."""
        size = 0
        for chunk, score in candidates:
            cost = self.tokens(chunk)
            if cost > self.share or self.spent + cost > self.limit:
                continue
            if self.chosen[group] and size + cost / 2 > budget:
                return budget - size, 0.0
            if self.take(group, chunk, score, refill=refill):
                size += cost
        return min(0.0, budget - size), max(0.0, budget - size)

    def take_one(self, group: int) -> int:
        """Tokens of the first of the group's own candidates that fits, whatever its share."""
        for chunk, score in zip(*self.found[group], strict=True):
            cost = self.tokens(chunk)
            if self.spent + cost <= self.limit and self.take(group, chunk, score, refill=False):
                return cost
        return 0

    @cached_property
    def everything(self) -> list[tuple[int, float, int]]:
        """(chunk, score, group) of all that was found, the most similar first, ties by number."""
        rows = [(c, s, group) for group, ranking in enumerate(self.found) for c, s in zip(*ranking, strict=True)]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def others(self, group: int) -> Iterator[tuple[int, float]]:
        """What the other groups found."""
        return self._ahead([(chunk, score) for chunk, score, owner in self.everything if owner != group], AHEAD)

    def own(self, group: int) -> Iterator[tuple[int, float]]:
        """What the group's meta-chunk found."""
        chunks, scores = self.found[group]
        costs = np.cumsum([self.tokens(chunk) for chunk in chunks[:1024]])
        likely = int(np.searchsorted(costs, 1.1 * self.share)) + 1
        return self._ahead(list(zip(chunks, scores, strict=True)), likely)

    def _ahead(self, found: list[tuple[int, float]], likely: int) -> Iterator[tuple[int, float]]:
        """The same; the shingles of those that are likely to be asked about are made together."""
        start, stop = 0, likely
        while start < len(found):
            block = found[start:stop]
            self.present.prepare([chunk for chunk, _ in block if chunk not in self.used])
            yield from block
            start, stop = stop, stop + AHEAD


def exact(
    metas: Sequence[int],
    found: Sequence[Ranking],
    tokens: Callable[[int], int],
    target: int,
    shares: Shares,
    present: Present,
    *,
    reserve: int = 0,
    beyond: int = 0,
) -> list[Group]:
    """Negatives by token budget, as `reference.plan_exact` chooses them; Dropped says why there are none.

    present: the meta-chunks, and what may not stand beside them. reserve: tokens kept free before the last meta-chunk;
    beyond: tokens wanted behind T. Both are for the tokens that joined texts have more or fewer than their parts.
    """
    room = target - sum(map(tokens, metas))
    draft = Draft(metas, found, tokens, shares, present, room, room - reserve)
    last = len(metas) - 1
    carry = 0.0
    missing = [0.0] * len(metas)
    for group in range(last):
        carry, missing[group] = draft.fill(group, draft.own(group), draft.share + carry, refill=False)
    for group in range(last):
        if not draft.chosen[group]:
            missing[group] -= draft.take_one(group)
        if missing[group] > 0:
            draft.fill(group, draft.others(group), missing[group], refill=True)
        if not draft.chosen[group]:
            raise Dropped("no negative fits behind a meta-chunk")
    for candidates, refill in ((draft.own(last), False), (draft.others(last), True)):
        for chunk, score in candidates:
            if draft.spent >= room + beyond:
                break
            draft.take(last, chunk, score, refill=refill)
    if draft.spent < room + beyond:
        raise Dropped("too few hard negatives for the target")
    return list(zip(metas, draft.chosen, strict=True))


def paper(
    metas: Sequence[int],
    found: Sequence[Ranking],
    target: int,
    characters: int,
    size: int,
    chars_per_token: float,
    shares: Shares,
    present: Present,
    tokens: Callable[[int], int],
    width: float = 1.5,
) -> list[Group]:
    """k = (T E w - S) / (p s) negatives for each meta-chunk."""
    k = negatives_per_chunk(target, characters, len(metas), size, chars_per_token, width)
    draft = Draft(metas, found, tokens, shares, present, 0, 0)
    for group, (chunks, scores) in enumerate(found):
        present.prepare(chunks[: k + k // 8])
        for chunk, score in zip(chunks, scores, strict=True):
            if len(draft.chosen[group]) == k:
                break
            draft.take(group, chunk, score, refill=False)
    return list(zip(metas, draft.chosen, strict=True))


def arrange(groups: Sequence[Group], position: Position, draw: random.Random, *, close: bool) -> list[Segment]:
    """The segments in the order of the text.

    close: the last group's last negative follows its meta-chunk wherever that stands, so that what is cut off at T is
    never a meta-chunk.
    """
    out: list[Segment] = []
    for number, (meta, negatives) in enumerate(groups):
        movable = negatives[:-1] if close and number == len(groups) - 1 else negatives
        place = {"head": 0, "tail": len(movable)}.get(position)
        if place is None:
            place = draw.randint(0, len(movable))
        out += [*negatives[:place], Segment(meta, "meta"), *negatives[place:]]
    return out


def shares_of(caps: Mapping[int, float], room: int, source_of: Callable[[int], int]) -> Shares:
    """Caps by number of the source, of `room` tokens of negatives."""
    return Shares(source_of, {source: share * room for source, share in caps.items()})
