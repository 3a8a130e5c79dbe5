"""Tables with a row for each token id, for another vocabulary: kept rows bit for bit, new ones by a rule.

A row of the embedding, of the output layer, or of a method's own table (`vocabulary_tables` of its part).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RowPlan:
    """Where each of the new rows comes from.

    kept: new id -> old id. pieces: new id -> old ids of its text. Other rows are padding: those of the old table that
    belong to no id (`spare`), in turn, or else the mean of all.
    """

    rows: int
    kept: Mapping[int, int]
    pieces: Mapping[int, Sequence[int]]
    spare: Sequence[int] = ()

    def sources(self) -> torch.Tensor:
        """For each new row one old row [rows]: its own, that of its first piece, or a spare one (else 0)."""
        found = torch.zeros(self.rows, dtype=torch.int64)
        for place, number in enumerate(self.padding()):
            found[number] = self.spare[place % len(self.spare)] if self.spare else 0
        for number, old in self.kept.items():
            found[number] = old
        for number, ids in self.pieces.items():
            found[number] = ids[0]
        return found

    def padding(self) -> list[int]:
        """Rows of no token."""
        return [number for number in range(self.rows) if number not in self.kept and number not in self.pieces]


Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(rows of the pieces [n, d], mean of all rows [d]) in float32 -> the new row [d]."""

INITS: Mapping[str, Rule] = {
    "pieces": lambda rows, _: rows.mean(0),
    "mean": lambda _, mean: mean,
    "zero": lambda _, mean: torch.zeros_like(mean),
}
"""pieces is called FVT and ReTok elsewhere."""


def new_table(old: torch.Tensor, plan: RowPlan, rule: Rule) -> torch.Tensor:
    """old [V, d] -> [rows, d] of the same type."""
    table = old[plan.sources()]
    real = sorted({*plan.kept.values()})
    mean = old[torch.tensor(real)].float().mean(0) if real else old.float().mean(0)
    for number, ids in plan.pieces.items():
        table[number] = rule(old[torch.tensor(list(ids))].float(), mean).to(old.dtype)
    if not plan.spare:
        for number in plan.padding():
            table[number] = mean.to(old.dtype)
    return table
