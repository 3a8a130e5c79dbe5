"""How often a run evaluates, and on how much: by default at most a quarter of its time, however short it is."""

from collections.abc import Sequence

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.wording import counted

TIMES, LEAST = 20, 5
"""Evaluations of a run that is long enough, and of a short one before their size is cut."""
TOKENS = 32768
"""Of each held-out set."""


@dataclass(frozen=True)
class Evaluations:
    """every: steps between them, 0 for one at the end. tokens: of each set, at most. note: for people, "" for none."""

    every: int
    tokens: int
    note: str = ""


def plan(every: int | None, tokens: int | None, sizes: Sequence[int], steps: int, batch: int) -> Evaluations:
    """What was not asked for (None) is chosen: evaluations read no more tokens than the updates do.

    A token that is only read costs a third of one that is trained on, forward of forward and twice as much backward:
    so that is a quarter of the time. sizes: tokens of each held-out set. batch: tokens of a step. What was asked for
    stays as it is, and the note says so where it takes more.
    """
    if not sizes:
        return Evaluations(max(1, steps // TIMES) if every is None else every, TOKENS if tokens is None else tokens)

    def read(every: int, tokens: int) -> int:
        return number(every) * sum(min(tokens, size) for size in sizes)

    def number(every: int) -> int:
        return -(-steps // every) if every else 1

    trained = steps * batch
    chosen, most = max(1, steps // TIMES) if every is None else every, TOKENS if tokens is None else tokens
    if read(chosen, most) <= trained:
        return Evaluations(chosen, most)
    if every is None:
        least = 1 if tokens is not None else min(LEAST, steps)
        chosen = -(-steps // max(least, trained // max(1, read(0, most))))
    if tokens is None and read(chosen, most) > trained:
        most = max(1, trained // number(chosen) // len(sizes))
    if read(chosen, most) <= trained:
        times = counted(number(chosen), "time")
        what = f"evaluation: {times} up to {most:,} tokens of each held-out set, a quarter of the time"
        return Evaluations(chosen, most, f"{what} at most (--eval-every and --eval-tokens choose)")
    share = read(chosen, most) / (read(chosen, most) + 3 * trained)
    what = f"evaluation reads {read(chosen, most):,} tokens, the updates {trained:,}: about {share:.0%} of the time"
    return Evaluations(chosen, most, f"{what}; fewer --eval-tokens or a larger --eval-every make it less")
