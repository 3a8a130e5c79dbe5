"""Documents for the baselines: their tokens and vectors, and how an order of them becomes samples of T tokens."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded
from llmtool.methods.nextlong.chance import drawn
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import quantise

I64 = npt.NDArray[np.int64]
Piece = tuple[int, int]
"""Chunks first..stop-1 of one document."""

SLACK = 64
"""Tokens more than T, as joined texts have fewer than their parts."""


class Baseline(Protocol):
    """A rule by which documents are put together."""

    name: str

    def samples(self, corpus: "Documents", wanted: int) -> list[list[Piece]]:
        """Pieces of each sample, `wanted` samples or fewer."""
        ...


class Documents:
    """What the rules know of the corpus."""

    def __init__(self, store: Store, tokens: npt.NDArray[np.uint32], vectors: Sharded | None, target: int, seed: int):
        self.store, self.target, self.seed = store, target, seed
        self.chunk_tokens = tokens
        self.tokens: I64 = np.add.reduceat(tokens.astype(np.int64), store.first[:-1])
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def order(self) -> list[int]:
        """All documents in the order of a hash of (seed, document)."""
        order: list[int] = np.argsort(drawn(self.seed, "documents", self.store.keys), kind="stable").tolist()
        return order

    @cached_property
    def vectors(self) -> npt.NDArray[np.int16]:
        """Mean of the chunks' vectors, as whole numbers [documents, dimensions]."""
        assert self._vectors is not None
        out = []
        for start in range(0, len(self), 1024):
            stop = min(len(self), start + 1024)
            first = self.store.first[start : stop + 1]
            rows = self._vectors.rows(np.arange(first[0], first[-1])).astype(np.int64)
            out.append(quantise(np.add.reduceat(rows, first[:-1] - first[0], axis=0)))
        return np.concatenate(out)

    def whole(self, document: int) -> Piece:
        """A document as a piece."""
        return int(self.store.first[document]), int(self.store.first[document + 1])

    def fill(self, order: Iterable[int]) -> Iterator[list[Piece]]:
        """Samples of T tokens out of documents in this order; a document that is cut goes on in the next sample.

        It goes on with the first chunk that begins behind T tokens, counted in parts: joined texts have a few fewer, so
        that a sample may end with the first tokens of the next.
        """
        held: list[int] = []
        size = 0
        for document in order:
            for chunk in range(*self.whole(document)):
                held.append(chunk)
                size += int(self.chunk_tokens[chunk])
                while size >= self.target + SLACK:
                    yield self._pieces(held)
                    costs = self.chunk_tokens[held].astype(np.int64)
                    behind = int(np.searchsorted(np.cumsum(costs) - costs, self.target))
                    held, size = held[behind:], int(costs[behind:].sum())

    def _pieces(self, chunks: list[int]) -> list[Piece]:
        """Chunks in the order of a sample, those of a document together."""
        documents = np.searchsorted(self.store.first, chunks, "right").tolist()
        pieces: list[Piece] = []
        for place, chunk in enumerate(chunks):
            if place and chunk == pieces[-1][1] and documents[place] == documents[place - 1]:
                pieces[-1] = (pieces[-1][0], chunk + 1)
            else:
                pieces.append((chunk, chunk + 1))
        return pieces
