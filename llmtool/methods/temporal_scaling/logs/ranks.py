"""Several ranks of one run that print into one log: told apart by a prefix, or by rows that stand there several times.

`[rank0]: step 10 loss 3.1`, torchrun's `[default1]:`, srun's `0: `, mpirun's `[1,0]<stdout>:`. Without a prefix the
rows of a step follow one another, though some may be late: each rank has its own buffer. Two runs are not one
another's ranks: they follow one another whole, or their losses differ by more than the noise of either.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.columns import Record, flatten, of_its_set
from llmtool.methods.temporal_scaling.logs.names import RANK, Meaning, meaning, words
from llmtool.methods.temporal_scaling.logs.numbers import known, number
from llmtool.methods.temporal_scaling.points import noise

Array = NDArray[np.float64]
Rows = tuple[list[dict[str, Any]], list[int]]
"""Records, and which of some lines each stands in."""
_PREFIX = re.compile(
    r".{0,60}?(?P<mark>[\[(](?:default|rank[ :=_]*|gpu[ :=_]*|\d{1,5},(?=\d+\]<))(?P<rank>\d{1,5})[\])]"
    r"(?:<std(?:out|err)>)?:?\s?)|(?P<start>\s*rank[ :=_]*(?P<named>\d{1,5})\s?[:|-]\s?)"
    r"|(?P<bare>\s*(?P<number>\d{1,5}):\s)",
    re.IGNORECASE,
)
_MARKED = re.compile(r"rank|\[default\d|gpu[ :=_]*\d|\]<std|\s*\d{1,5}: ", re.IGNORECASE)
"""What a line that names a rank holds."""
NUMBERED = 3
"""What may be a count of the row as well, `10: loss 3.1`, is a rank where each stands in so many lines."""
MOST = 64
"""Rows of a step that are looked at for whether they are of as many ranks."""
MANY = 4
"""Times the lines of a log that may be looked at for the ranks that they are of."""
FEWEST = 5
"""Steps without which no ranks can be seen."""
SHARE = 0.9
"""Of the steps, so many have a row of each rank; a run that has not ended lacks some in its last ones."""
ALIKE = 0.002
"""Losses that differ by less are of one step: ranks that have them averaged round them each on its own."""
APART = 4.0
"""Losses of parts of a batch differ by about 1.4 times the noise of one; of two runs, by more than so many times."""
LATE = 4
"""A row of a step may stand so many times as far from the first one as those before it did."""


def one_rank(
    lines: Sequence[str], rows: Callable[[Sequence[str]], Rows]
) -> tuple[list[dict[str, Any]], list[int], str]:
    """The records of some lines without what other ranks than one tell of the same steps, the line of each, and a note.
    Prefixes that are of no ranks stay. rows: reads lines."""
    found = [_PREFIX.match(line) if _MARKED.search(line[:99]) else None for line in lines]
    bare = [match["number"] for match in found if match and match["bare"]]
    if NUMBERED * len(set(bare)) > len(bare):
        found = [None if match and match["bare"] else match for match in found]
    of: dict[int, list[int]] = {}
    common: list[int] = []
    out = list(lines)
    for place, match in enumerate(found):
        if match is None:
            common.append(place)
            continue
        of.setdefault(int(known(match["rank"] or match["named"] or match["number"])), []).append(place)
        group = next(each for each in ("mark", "start", "bare") if match[each])
        out[place] = lines[place][: match.start(group)] + lines[place][match.end(group) :]
    if len(of) < 2:
        return *rows(lines), ""
    told: list[tuple[int, int | None, dict[str, Any]]] = []  # line, rank, record
    for rank, own in of.items():
        # what names no rank may say the epoch to all of them
        among = sorted([*own, *common]) if len(of) * len(common) <= MANY * len(lines) else own
        records, at = rows([out[place] for place in among])
        mine = set(own)
        told += [(among[k], rank, each) for each, k in zip(records, at, strict=True) if among[k] in mine]
    records, at = rows([out[place] for place in common])
    told += [(common[k], None, each) for each, k in zip(records, at, strict=True)]
    told.sort(key=lambda each: each[0])
    kept, note = _of_one([(each, rank) for _, rank, each in told], meaning)
    if note is None and (whole := rows(lines))[0]:
        return *whole, ""
    left = [(place, each) for (place, _, _), each in zip(told, kept, strict=True) if each is not None]
    return [dict(each) for _, each in left], [place for place, _ in left], note or ""


def of_one_rank(records: Iterable[Record], known_as: Callable[[str], Meaning | None]) -> tuple[list[Record], str]:
    """The same for records that name their rank. known_as: what a column holds."""
    held = list(records)
    keys = {key for record in held for key in record if " ".join(words(key)) in RANK}
    if not keys:
        return held, ""
    key = min(keys, key=lambda each: (RANK.index(" ".join(words(each))), each))
    ranks = [number(record.get(key)) for record in held]
    named = {rank for rank in ranks if rank is not None and not math.isnan(rank)}
    if len(named) < 2 or not all(rank >= 0 and rank % 1 == 0 for rank in named):
        return held, ""
    whole = [None if rank is None or math.isnan(rank) else int(rank) for rank in ranks]
    flat = [of_its_set(dict(flatten(record))) for record in held]
    kept, note = _of_one(list(zip(flat, whole, strict=True)), known_as)
    return ([each for each in kept if each is not None] if note is not None else held), note or ""


def _of_one(
    rows: Sequence[tuple[Record, int | None]], known_as: Callable[[str], Meaning | None]
) -> tuple[list[Record | None], str | None]:
    """Records with their ranks, without the losses that one rank tells of the same steps, None where nothing is left;
    what to say of them, None if none went. Of each loss: in pipelines the last rank alone has one, or a rank evaluates.

    Ranks count from 0 or without a gap, and tell of the same steps at the same time. What does not is the rank of an
    adapter, an hour, a load, or another start by other ranks.
    """
    told: dict[str, dict[int, dict[Any, list[tuple[int, str, bool]]]]] = {}  # by loss, rank and step
    for place, (record, rank) in enumerate(rows):
        if rank is not None and (step := _step(record, known_as)) is not None:
            for key, value in record.items():
                if (held := known_as(key)) is None or held.role != "loss" or (loss := number(value)) is None:
                    continue
                row = (place, key, math.isfinite(loss) and loss > 0)
                told.setdefault(held.metric, {}).setdefault(rank, {}).setdefault(step, []).append(row)
    gone: dict[int, set[str]] = {}
    notes: dict[str, None] = {}
    for of in told.values():
        ranks = sorted(of)
        good = {rank: sum(any(row[2] for row in at) for at in of[rank].values()) for rank in ranks}
        if len(ranks) < 2 or not any(good.values()) or (ranks[0] and ranks[-1] - ranks[0] >= len(ranks)):
            continue
        first = next(rank for rank in ranks if good[rank] and 2 * good[rank] >= max(good.values()))
        by_step = Counter(step for at in of.values() for step in at)
        if 2 * sum(count > 1 for count in by_step.values()) < len(by_step):
            continue
        own = [row[0] for at in of[first].values() for row in at]
        for rank in ranks:
            others = [row[0] for at in of[rank].values() for row in at]
            if rank == first or max(own) < min(others) or max(others) < min(own):
                continue  # one after the other
            for step, at in of[rank].items():
                kept = of[first].get(step, [])
                for place, key, fine in at:
                    if any(row[2] for row in kept) or (kept and not fine):
                        gone.setdefault(place, set()).add(key)
                        if good[rank]:
                            notes[f"rows of {sum(map(bool, good.values()))} ranks: those of rank {first} count"] = None
    out: list[Record | None] = []
    for place, (record, _) in enumerate(rows):
        left = {key: value for key, value in record.items() if key not in gone.get(place, ())}
        out.append(left if place not in gone or any(_is_loss(known_as(key)) for key in left) else None)
    return out, "; ".join(notes) if gone else None


def _is_loss(held: Meaning | None) -> bool:
    return held is not None and held.role == "loss"


def _step(record: Record, known_as: Callable[[str], Meaning | None]) -> Any:
    """What tells rows of one step from those of others: its best count, beside the epoch; None where it has none."""
    counts = [(held.rank, number(value), bool(held.unit)) for key, value in record.items()
              if (held := known_as(key)) is not None and held.role == "axis"]  # fmt: skip
    epochs = tuple(value for _, value, epoch in counts if epoch)
    steps = sorted((rank, value) for rank, value, epoch in counts if not epoch and value is not None)
    if steps or epochs:
        return (steps[0][1] if steps else None, epochs)
    tokens = [number(value) for key, value in record.items() if (held := known_as(key)) and held.role == "tokens"]
    return tokens[0] if tokens else None


def merged(steps: Array, values: Array, rates: Array) -> tuple[Array, Array, str]:
    """Rows of a loss of which several stand there for each step, as of so many ranks: their means, and a note. What is
    of no ranks stays as it is. rates: beside the rows, NaN where a row has none; runs differ in them."""
    same = steps, values, ""
    found, counts = np.unique(steps, return_counts=True)
    if len(found) < FEWEST or counts.max() < 2:
        return same
    ranks = int(np.median(counts))
    # a part that was repeated after a crash has twice as many
    if not 2 <= ranks <= MOST or np.mean(counts % ranks == 0) < SHARE:
        return same
    # A rank whose output goes into a file keeps back some thousand characters of it: blocks of rows take turns.
    turns = (np.diff(steps) < 0).sum() >= FEWEST * (ranks - 1)
    order = np.argsort(steps, kind="stable")
    apart_by = np.diff(order)[np.diff(steps[order]) == 0]
    groups = _groups(steps, ranks, int(np.median(apart_by)) * (ranks - 1) if turns else 0)
    at = np.array([group[0] for group in groups])
    if len(groups) >= len(steps) or (np.diff(steps[at]) < 0).sum() > len(groups) // FEWEST:
        return same
    full_groups = [group for group in groups if len(group) == ranks]
    if len(full_groups) < max(FEWEST, SHARE * len(groups)):  # of all the log, to its end
        return same
    whole, rate = np.log(values[np.array(full_groups)]), rates[np.array(full_groups)]
    if np.mean(np.ptp(rate, axis=1) > 1e-3 * np.abs(rate[:, 0])) > 1 - SHARE:
        return same
    apart = float(np.median(whole.max(axis=1) - whole.min(axis=1)))
    told = f"each step stands there {ranks} times"
    if apart < ALIKE:
        return steps[at], values[at], f"{told}, as of {ranks} ranks that print the same rows: one of them counts"
    between = whole[:, 1:] - whole[:, :1]
    own = noise(whole.min(axis=1))
    shift = np.abs(between.mean(axis=0)) > np.maximum(ALIKE, 3 * between.std(axis=0) / np.sqrt(len(whole)))
    if apart > APART * own or shift.any():
        return same
    mean = np.array([values[group].mean() for group in groups])
    note = f"{told}, as of {ranks} ranks whose losses differ by {100 * apart:.1f}%: their means count"
    return steps[at], mean, note


def _groups(steps: Array, ranks: int, late: int) -> list[list[int]]:
    """Places of the rows of each step, as many as there are ranks and near to one another: no farther than some times
    as many rows as the last of a step was late so far."""
    open_groups: dict[float, list[int]] = {}
    groups: list[list[int]] = []
    gaps = [max(2 * ranks, late)]
    for place, step in enumerate(steps.tolist()):
        group = open_groups.get(step)
        if group is None or len(group) == ranks or place - group[0] > LATE * max(gaps[-MOST:]):
            group = open_groups[step] = []
            groups.append(group)
        group.append(place)
        if len(group) == ranks:
            gaps.append(group[-1] - group[0])
    return groups
