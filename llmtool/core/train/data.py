"""Where batches come from: rows that are pure functions of (seed, number), so a resumed run needs the step alone.

`Batches` is all that the loop knows. Row r of step s is the same whatever the number of processes and the size of a
micro-batch: a process asks for the rows that are its own.

    TokenRows   rows of one flat array of ids, shuffled anew each epoch
    Mixture     rows of several, by weight
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch

from llmtool.core.corpus.token_files import TokenFile
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED, Batch


class Batches(Protocol):
    """A source of batches; implement this to train on anything else."""

    @property
    def rows(self) -> int:
        """Rows in a step, over all processes and micro-batches."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that a step counts for in the log."""
        ...

    def batch(self, step: int, rows: range) -> Batch:
        """The rows of this step with these numbers (0 .. self.rows - 1), on the CPU; every call gives the same.

        Their length may differ from call to call, but a compiled step wants one shape.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """JSON values that tell these rows from others: a resumed run must find the same."""
        ...


class RowSource(Protocol):
    """An endless sequence of rows of length + 1 tokens."""

    length: int

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """(ids [length + 1], document of each, or None) of row `number`."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """As Batches.fingerprint."""
        ...


def draw(*key: object) -> int:
    """64 random bits that depend on the key alone."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")


def shuffled(number: int, size: int, key: tuple[object, ...]) -> int:
    """Where `number` of 0 .. size - 1 goes in a random order: a Feistel network, so no order is ever in memory.

    The network permutes the next power of four; numbers that leave 0 .. size - 1 are sent through it again.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(4):
            left, right = right, left ^ (draw(*key, turn, right) & mask)
        number = left << half | right
        if number < size:
            return number


class TokenRows:
    """Rows of `length` + 1 ids of a flat array: each epoch cuts it at another offset and goes through it in new order.

    mask_documents: number the documents, so that no token sees another document and none predicts the next one's first.
    """

    def __init__(self, file: TokenFile, length: int, seed: int, *, mask_documents: bool = True) -> None:
        if len(file) < length + 1:
            what = f"holds {len(file):,} tokens, fewer than a row of {length:,} and the one after it"
            raise UserError(what, where=file.name, hint="give more data, or a smaller --length")
        self.file, self.length, self.seed, self.mask_documents = file, length, seed, mask_documents
        # The offset of an epoch is below `length`, and may not cost the last row of a small corpus.
        self.slack = min(length, (len(file) - 1) % length + 1)
        self.rows = (len(file) - self.slack) // length

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Row `number`; an epoch has self.rows of them."""
        epoch, place = divmod(number, self.rows)
        key = (self.seed, self.file.name, epoch)
        start = draw(*key, "offset") % self.slack + self.length * shuffled(place, self.rows, key)
        ids = self.file.ids[start : start + self.length + 1].astype(np.int64)
        documents = self.file.documents(start, self.length + 1) if self.mask_documents else None
        return ids, documents

    def fingerprint(self) -> dict[str, Any]:
        """The corpus and the order."""
        order = {"length": self.length, "seed": self.seed, "mask_documents": self.mask_documents}
        return {"name": self.file.name, **self.file.fingerprint(), **order}


PERIOD = 10_000
"""Rows after which the pattern of a mixture repeats: weights are exact to this share."""


class Mixture:
    """Rows of several sources by weight, interleaved as evenly as whole rows allow."""

    def __init__(self, sources: Sequence[RowSource], weights: Sequence[float]) -> None:
        if not sources or len(weights) != len(sources):
            raise ValueError("a weight for each source")
        if not all(0 < weight < float("inf") for weight in weights):
            raise UserError(f"weights {', '.join(f'{w:g}' for w in weights)}: each must be above 0")
        self.sources, self.weights = list(sources), [weight / sum(weights) for weight in weights]
        self.length = sources[0].length
        self._pattern = self._interleave()
        chosen = np.array(self._pattern)[None] == np.arange(len(sources))[:, None]
        self._before = np.concatenate((np.zeros((len(sources), 1), int), chosen.cumsum(1)), 1)

    def _interleave(self) -> list[int]:
        """The source of each row of a period: always the one that lags furthest behind its share."""
        if len(self.sources) == 1:
            return [0]
        given, pattern = [0] * len(self.sources), []
        for number in range(1, PERIOD + 1):
            lag = [weight * number - count for weight, count in zip(self.weights, given, strict=True)]
            pattern.append(lag.index(max(lag)))
            given[pattern[-1]] += 1
        if 0 in given:
            rare = self.weights[given.index(0)]
            raise UserError(f"a weight of {rare:g} is less than one row in {PERIOD:,}", hint="drop the source")
        return pattern

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Row `number` of the mixture."""
        period, place = divmod(number, len(self._pattern))
        source = self._pattern[place]
        count = self._before[source]
        return self.sources[source].row(period * int(count[-1]) + int(count[place]))

    def fingerprint(self) -> dict[str, Any]:
        """Sources and weights."""
        return {"sources": [source.fingerprint() for source in self.sources], "weights": self.weights}


@dataclass(frozen=True)
class RowBatches:
    """Batches of `rows` rows a step from a source of rows."""

    source: RowSource
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.rows * self.source.length

    def batch(self, step: int, rows: range) -> Batch:
        """As Batches.batch."""
        pairs = [self.source.row(step * self.rows + number) for number in rows]
        return to_batch([ids for ids, _ in pairs], [documents for _, documents in pairs])

    def fingerprint(self) -> dict[str, Any]:
        """As Batches.fingerprint."""
        return {"rows": self.rows, **self.source.fingerprint()}


def to_batch(ids: Sequence[np.ndarray[Any, Any]], documents: Sequence[np.ndarray[Any, Any] | None]) -> Batch:
    """Rows of T + 1 ids -> a batch of T: a document's last token does not predict the next document's first."""
    tokens = torch.from_numpy(np.stack(ids))
    # A single row is contiguous as it is cut, and what is left out of the labels would be written into the inputs.
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].clone()
    numbered = [row for row in documents if row is not None]
    if len(numbered) < len(documents):
        return Batch(inputs, labels)
    numbers = torch.from_numpy(np.stack(numbered))
    labels[numbers[:, 1:] != numbers[:, :-1]] = IGNORED
    return Batch(inputs, labels, numbers[:, :-1].contiguous())


def shares(total: int, parts: int) -> list[range]:
    """0 .. total - 1 cut into contiguous ranges whose sizes differ by at most one."""
    sizes = [total // parts + (part < total % parts) for part in range(parts)]
    ends = list(accumulate(sizes))
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
