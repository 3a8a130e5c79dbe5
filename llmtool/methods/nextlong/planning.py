"""Which chunks a sample consists of and in which order: the paper's formula, or a budget of tokens.

`exact` chooses as `reference.plan_exact` does, with what the reference leaves out: shares of sources, other positions
of the meta-chunk, chunks that do not fit.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmtool.methods.nextlong.reference import negatives_per_chunk

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


def exact(
    metas: Sequence[int],
    found: Sequence[Ranking],
    tokens: Callable[[int], int],
    target: int,
    shares: Shares,
    *,
    reserve: int = 0,
    beyond: int = 0,
) -> list[Group] | None:
    """Negatives by token budget; None if they do not suffice. See reference.plan_exact.

    reserve: tokens kept free before the last meta-chunk; beyond: tokens wanted behind T. Both are for the tokens that
    joined texts have more or fewer than their parts.
    """
    room = target - sum(map(tokens, metas))
    used: set[int] = set()
    groups: list[Group] = []
    spent = 0
    for number, (meta, (candidates, scores)) in enumerate(zip(metas, found, strict=True), 1):
        last = number == len(metas)
        chosen: list[Segment] = []
        for candidate, score in zip(candidates, scores, strict=True):
            if candidate in used:
                continue
            cost = tokens(candidate)
            if last and spent >= room + beyond:
                break
            if not last and spent + cost / 2 > room * number / len(metas):
                break
            if not last and spent + cost > room - reserve:
                break
            if not shares.take(candidate, cost):
                continue
            used.add(candidate)
            chosen.append(Segment(candidate, "negative", len(chosen) + 1, score))
            spent += cost
        groups.append((meta, chosen))
    return groups if spent >= room + beyond else None


def paper(
    metas: Sequence[int],
    found: Sequence[Ranking],
    target: int,
    characters: int,
    size: int,
    chars_per_token: float,
    shares: Shares,
    tokens: Callable[[int], int],
    width: float = 1.5,
) -> list[Group]:
    """k = (T E w - S) / (p s) negatives for each meta-chunk."""
    k = negatives_per_chunk(target, characters, len(metas), size, chars_per_token, width)
    used: set[int] = set()
    groups: list[Group] = []
    for meta, (candidates, scores) in zip(metas, found, strict=True):
        chosen: list[Segment] = []
        for candidate, score in zip(candidates, scores, strict=True):
            if len(chosen) == k:
                break
            if candidate in used or not shares.take(candidate, tokens(candidate)):
                continue
            used.add(candidate)
            chosen.append(Segment(candidate, "negative", len(chosen) + 1, score))
        groups.append((meta, chosen))
    return groups


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
