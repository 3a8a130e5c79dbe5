"""Several ranks of one run that print into one log: told apart by a prefix, or by rows that stand there several times.

`[rank0]: step 10 loss 3.1`, torchrun's `[default1]:`, srun's `0: `, mpirun's `[1,0]<stdout>:`. Without a prefix the
rows of a step follow one another, though some may be late: each rank has its own buffer. Two runs are not one
another's ranks: they follow one another whole, or their losses differ by more than the noise of either.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.columns import Record
from llmtool.methods.temporal_scaling.logs.names import RANK, words
from llmtool.methods.temporal_scaling.logs.numbers import known, number
from llmtool.methods.temporal_scaling.points import noise

Array = NDArray[np.float64]
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


def one_rank(lines: Sequence[str], losses: Callable[[Sequence[str]], int]) -> tuple[Sequence[str | None], str]:
    """Lines without those of other ranks than the first that tells of losses as often as any does, and without the
    prefixes; a note. losses: how many rows of some lines tell of one."""
    found = [_PREFIX.match(line) if _MARKED.search(line[:99]) else None for line in lines]
    bare = [match["number"] for match in found if match and match["bare"]]
    if NUMBERED * len(set(bare)) > len(bare):
        found = [None if match and match["bare"] else match for match in found]
    of: dict[int, list[int]] = {}
    for place, match in enumerate(found):
        if match:
            of.setdefault(int(known(match["rank"] or match["named"] or match["number"])), []).append(place)
    if len(of) < 2:
        return lines, ""
    out: list[str | None] = list(lines)
    for place, match in enumerate(found):
        if match:
            group = next(each for each in ("mark", "start", "bare") if match[each])
            out[place] = lines[place][: match.start(group)] + lines[place][match.end(group) :]
    rows = {rank: losses([str(out[place]) for place in of[rank]]) for rank in sorted(of)}
    if not any(rows.values()):
        return lines, ""
    first = next(rank for rank in rows if rows[rank] and 2 * rows[rank] >= max(rows.values()))
    for rank in of.keys() - {first}:
        for place in of[rank]:
            out[place] = None
    told = sum(each > 0 for each in rows.values())
    return out, f"rows of {told} ranks: those of rank {first} count" if told > 1 else ""


def of_one_rank(records: Iterable[Record]) -> tuple[list[Record], str]:
    """The same for records that name their rank."""
    held = list(records)
    keys = {key for record in held[:MOST] for key in record if " ".join(words(key)) in RANK}
    if len(keys) != 1:
        return held, ""
    [key] = keys
    ranks = [number(record.get(key)) for record in held]
    rows: dict[float, int] = {}
    for rank in ranks:
        if rank is not None:
            rows[rank] = rows.get(rank, 0) + 1
    if len(rows) < 2:
        return held, ""
    first = next(rank for rank in sorted(rows) if 2 * rows[rank] >= max(rows.values()))
    kept = [record for record, rank in zip(held, ranks, strict=True) if rank is None or rank == first]
    return kept, f"rows of {len(rows)} ranks: those of rank {first:g} count"


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
    turns = (np.diff(steps) < 0).sum() >= 2 * (ranks - 1)
    order = np.argsort(steps, kind="stable")
    apart_by = np.diff(order)[np.diff(steps[order]) == 0]
    groups = _groups(steps, ranks, int(np.median(apart_by)) * (ranks - 1) if turns else 0)
    at = np.array([group[0] for group in groups])
    if len(groups) >= len(steps) or (np.diff(steps[at]) < 0).sum() > len(groups) // FEWEST:
        return same
    full_groups = [group for group in groups if len(group) == ranks]
    if len(full_groups) < FEWEST:
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
