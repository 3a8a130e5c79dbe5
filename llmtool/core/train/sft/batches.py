"""Examples -> rows of one length, packed with a number for each document; a source of batches for the loop.

Packed rows hold whole examples side by side; no token sees another example (Batch.documents), positions begin anew
with each, and none predicts the first of the next. Which rows a step has depends on (seed, step) alone.
"""

from typing import Any

import numpy as np
import torch

from llmtool.core.train.data import draw, shuffled
from llmtool.core.train.objective import IGNORED, Batch
from llmtool.core.train.sft.example import Examples


def pack(lengths: list[int], room: int, seed: int) -> list[list[int]]:
    """Rows of example numbers, `room` places each, of examples that take `lengths` places: best fit, longest first.

    Ties between examples of a length are broken by the seed; the fullest row that still has room is taken.
    """
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], draw(seed, "pack", number)))
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    for number in order:
        need = lengths[number]
        fitting = min((left for left in by_room if left >= need and by_room[left]), default=None)
        if fitting is None:
            rows.append([])
            row, left = len(rows) - 1, room
        else:
            row, left = by_room[fitting].pop(), fitting
            if not by_room[fitting]:
                del by_room[fitting]
        rows[row].append(number)
        by_room.setdefault(left - need, []).append(row)
    return rows


class PackedExamples:
    """Batches (core.train.data) of `rows` rows of `length` places. packing False: one example a row."""

    def __init__(self, examples: Examples, length: int, rows: int, seed: int, *, packing: bool = True) -> None:
        self.examples, self.length, self.rows, self.seed, self.packing = examples, length, rows, seed, packing
        places = [count - 1 for count in examples.lengths]
        self.packed = pack(places, length, seed) if packing else [[number] for number in range(len(places))]
        self.used = sum(places)

    @property
    def tokens(self) -> int:
        """Places in a step, padding included."""
        return self.rows * self.length

    @property
    def fill(self) -> float:
        """Share of the places that hold a token."""
        return self.used / (len(self.packed) * self.length)

    def steps(self, epochs: float) -> int:
        """Steps that go through the rows so many times; the last step may begin the next epoch."""
        return max(1, -(-round(len(self.packed) * epochs) // self.rows))

    def row(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """ids, labels, documents, [length] each, of row `number` of an endless sequence of shuffled epochs."""
        epoch, place = divmod(number, len(self.packed))
        ids = np.zeros(self.length, np.int64)
        labels = np.full(self.length, IGNORED, np.int64)
        documents = np.full(self.length, self.length, np.int64)  # padding: a document of its own
        start = 0
        for document, chosen in enumerate(self.packed[shuffled(place, len(self.packed), (self.seed, "sft", epoch))]):
            example = self.examples[chosen]
            end = start + len(example.ids) - 1
            ids[start:end] = example.ids[:-1]
            labels[start:end] = np.where(example.trained[1:], example.ids[1:], IGNORED)
            documents[start:end] = document
            start = end
        return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(documents)

    def batch(self, step: int, rows: range) -> Batch:
        """As core.train.data.Batches."""
        found = [self.row(step * self.rows + number) for number in rows]
        ids, labels, documents = (torch.stack(parts) for parts in zip(*found, strict=True))
        return Batch(ids, labels, documents, read=documents != self.length)

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must find the same: every token, every mask, the order."""
        return {
            "examples": len(self.examples), "sha256": self.examples.digest(), "length": self.length, "rows": self.rows,
            "seed": self.seed, "packing": self.packing,
        }  # fmt: skip
