"""`[ Train | 001/100 ] loss = 2.3`, `[ Valid | 001/100 ]`: an epoch, or how far the program is in one."""

import re
from collections.abc import Sequence
from itertools import pairwise

from llmtool.core.run.numbers import find_real
from llmtool.methods.temporal_scaling.logs.names import HELD_OUT, TRAIN

_PHASED = re.compile(r"\[\s*([A-Za-z]+)\s*[|:]?\s*(\d{1,9})\s*/\s*(\d{1,9})\s*\]")
_EPOCH = re.compile(r"(?<![A-Za-z])epoch[\W_]{0,3}\d", re.IGNORECASE)


class Phases:
    """What stands in such brackets in some lines. It is an epoch where no line names another one, all phases have as
    many, and training goes from one to the next, or back before it came to the last."""

    def __init__(self, lines: Sequence[str]) -> None:
        counts: dict[bool, list[float]] = {True: [], False: []}
        totals: set[float] = set()
        named = False
        for line in lines:
            found = _PHASED.search(line) if "[" in line else None
            if found is None or (train := _trains(found)) is None:
                continue
            named = named or _EPOCH.search(line) is not None
            done, of = _numbers(found)
            totals.add(of)
            if counts[train][-1:] != [done]:  # not the same line, printed again
                counts[train].append(done)
        self.any = bool(totals)
        trained, other = (counts[True], counts[False]) if counts[True] else (counts[False], [])
        falls = [sum(after <= before for before, after in pairwise(each)) for each in (trained, other)]
        on = all(after == before + 1 or after <= before < max(totals) for before, after in pairwise(trained))
        self.epochs = not named and len(totals) == 1 and on and falls[1] <= falls[0]
        if self.any and not named:
            self.epochs = self.epochs and not any(_EPOCH.match(line.strip(" =>#*-_\t")) for line in lines)

    def spelled_out(self, line: str) -> str:
        """A line as other programs print it."""
        return _PHASED.sub(self._one, line) if self.any else line

    def _one(self, found: re.Match[str]) -> str:
        train = _trains(found)
        if train is None:
            return found[0]
        if self.epochs:
            return f" epoch {found[2]}/{found[3]}{'' if train else ' valid'} "
        if train or found[2] != found[3] or not _EPOCH.search(found.string):
            return f" {'train' if train else 'valid'} [{found[2]}/{found[3]}] "
        return " valid "  # the end of an evaluation, of the epoch that the line names


def _trains(found: re.Match[str]) -> bool | None:
    """Whether a phase is one of training; None where it is none."""
    kind = found[1].lower()
    done, of = _numbers(found)
    if not 0 < of >= done:
        return None
    return True if kind in TRAIN else False if kind in HELD_OUT else None


def _numbers(found: re.Match[str]) -> tuple[float, float]:
    """What is done, and of how many."""
    return find_real(found[2]) or 0.0, find_real(found[3]) or 0.0
