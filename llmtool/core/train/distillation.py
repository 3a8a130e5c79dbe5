"""Token Distillation (Dobler et al., ICLR 2026, arXiv 2505.20133): rows of new tokens from what their pieces did.

The model reads a text twice: cut as before (the teacher), and with the new tokens. Where both cuts have just read the
same bytes, from the first new token on, the hidden states should be equal; the mean squared difference is minimised,
and only the input rows of new tokens move. One model is both, because the teacher's cut holds no new token.

Rows of a batch are pairs: row 2i the teacher's ids, row 2i + 1 the student's, whose labels are not ids but the places
in the teacher's row that they should equal.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from llmtool.core.model.decoder import Decoder
from llmtool.core.run.dataclass import dataclass
from llmtool.core.train.objective import IGNORED, Batch, Figures, Objective, Term


@dataclass(frozen=True)
class Pair:
    """One text in both cuts. places: for each of the student's positions the teacher's, or IGNORED."""

    teacher: list[int]
    student: list[int]
    places: list[int]


def pair(ids: Sequence[int], pieces: Mapping[int, Sequence[int]]) -> Pair:
    """Ids with new tokens -> the pair; `pieces`: new id -> the ids that stand for it in the old cut."""
    parts = [list(pieces.get(number, (number,))) for number in ids]
    ends = list(accumulate(map(len, parts)))
    first = next((place for place, number in enumerate(ids) if number in pieces), len(ids))
    places = [end - 1 if place >= first else IGNORED for place, end in enumerate(ends)]
    return Pair([number for part in parts for number in part], list(ids), places)


def choose(
    rows: Iterable[Sequence[int]], pieces: Mapping[int, Sequence[int]], snippets: int, most: int
) -> Iterator[list[int]]:
    """Rows that hold a new token which has not been seen `snippets` times in earlier ones; at most so many."""
    seen: Counter[int] = Counter()
    number = 0
    for row in rows:
        new = {each for each in row if each in pieces}
        if any(seen[each] < snippets for each in new):
            seen.update(new)
            yield list(row)
            number += 1
            if number >= most:
                return


class PairBatches:
    """An epoch over pairs in a random order; shorter rows are filled up behind, where causal attention cannot see."""

    def __init__(self, pairs: Sequence[Pair], rows: int, seed: int) -> None:
        self._pairs, self._seed = list(pairs), seed
        random.Random(seed).shuffle(self._pairs)
        self.rows = rows
        self.steps = -(-len(self._pairs) // rows)

    @property
    def tokens(self) -> int:
        """The student's tokens of a step, about."""
        return sum(len(each.student) for each in self._pairs) // max(1, self.steps)

    def batch(self, step: int, rows: range) -> Batch:
        """The pairs of these rows, as twice as many rows."""
        chosen = [self._pairs[(step * self.rows + row) % len(self._pairs)] for row in rows]
        width = max(len(each.teacher) for each in chosen)
        ids = torch.zeros((2 * len(chosen), width), dtype=torch.int64)
        labels = torch.full_like(ids, IGNORED)
        for number, each in enumerate(chosen):
            ids[2 * number, : len(each.teacher)] = torch.tensor(each.teacher)
            ids[2 * number + 1, : len(each.student)] = torch.tensor(each.student)
            labels[2 * number + 1, : len(each.student)] = torch.tensor(each.places)
        return Batch(ids, labels)

    def fingerprint(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        return {"pairs": len(self._pairs), "seed": self._seed}


class NewRows(Term):
    """Only the embedding may move."""

    def trainable(self, name: str) -> bool:
        """Tied or not, one table holds the input rows."""
        return name == "model.embed_tokens.weight"


class Distillation(Objective):
    """Mean squared difference of the normed last hidden states, over all dimensions."""

    def __init__(self) -> None:
        super().__init__({"distillation": NewRows()})

    def loss(self, decoder: Decoder, batch: Batch) -> tuple[torch.Tensor, Figures]:
        """As the base's; "loss" is the mean squared difference."""
        with torch.no_grad():
            wanted, _ = decoder.hidden(batch.ids[0::2])
        h, _ = decoder.hidden(batch.ids[1::2])
        places = batch.labels[1::2]
        seen = places != IGNORED
        rows = torch.arange(len(places), device=places.device)[:, None].expand_as(places)
        difference = (h[seen] - wanted[rows[seen], places[seen]]).float()
        loss = difference.square().mean()
        return loss, {"loss": loss.detach()}


def hold_old_rows(table: torch.Tensor, new: Sequence[int]) -> None:
    """Let only these rows of a table get gradients."""
    moving = torch.zeros((len(table), 1), dtype=table.dtype, device=table.device)
    moving[torch.tensor(list(new))] = 1
    table.register_hook(lambda gradient: gradient * moving)  # type: ignore[no-untyped-call]
