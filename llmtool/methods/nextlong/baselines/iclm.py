"""ICLM (Shi et al., ICLR 2024, arXiv 2310.10638, algorithm 1): a greedy path over all documents, each visited once.

The graph joins each document with its K nearest. The path begins at the document of least degree, goes on to the most
similar neighbour not visited yet, and where there is none begins again at the one of least degree left. The path is cut
every T tokens.
"""

import heapq
from collections.abc import Sequence
from itertools import islice

import numpy as np

from llmtool.methods.nextlong.baselines.documents import Documents, Piece
from llmtool.methods.nextlong.search import best
from llmtool.methods.nextlong.vectors import similarities

NEIGHBOURS = 10
ROWS = 256


def neighbours(corpus: Documents, k: int = NEIGHBOURS) -> list[list[tuple[int, float]]]:
    """The k nearest of each document, made symmetric: [(document, similarity)], best first, ties by number."""
    edges: list[dict[int, float]] = [{} for _ in range(len(corpus))]
    numbers = np.arange(len(corpus))
    for start in range(0, len(corpus), ROWS):
        scores = similarities(corpus.vectors[start : start + ROWS], corpus.vectors)
        for document, row in enumerate(scores, start):
            row[document] = -np.inf
            ids, found = best(row, numbers, min(k, len(corpus) - 1))
            for other, score in zip(ids.tolist(), found.tolist(), strict=True):
                edges[document][other] = score
                edges[other][document] = score
    return [sorted(each.items(), key=lambda pair: (-pair[1], pair[0])) for each in edges]


def path(graph: Sequence[Sequence[tuple[int, float]]]) -> list[int]:
    """The documents in the order of the path."""
    left = [(len(edges), document) for document, edges in enumerate(graph)]
    heapq.heapify(left)
    visited = [False] * len(graph)
    order: list[int] = []
    while left:
        document = heapq.heappop(left)[1]
        while not visited[document]:
            visited[document] = True
            order.append(document)
            document = next((other for other, _ in graph[document] if not visited[other]), document)
    return order


class Iclm:
    """The path, cut into samples."""

    name = "iclm"

    def samples(self, corpus: Documents, wanted: int) -> list[list[Piece]]:
        """See Baseline."""
        return list(islice(corpus.fill(path(neighbours(corpus))), wanted))
