"""KNN: each document with its most similar ones, in descending similarity; documents recur in many samples."""

import numpy as np

from llmtool.methods.nextlong.baselines.documents import SLACK, Documents, Piece
from llmtool.methods.nextlong.search import best
from llmtool.methods.nextlong.vectors import similarities

ROWS = 256


class Knn:
    """The seed first, then its neighbours."""

    name = "knn"

    def samples(self, corpus: Documents, wanted: int) -> list[list[Piece]]:
        """See Baseline; seeds in the order of a hash, those that cannot reach T left out."""
        out: list[list[Piece]] = []
        numbers = np.arange(len(corpus))
        for start in range(0, len(corpus), ROWS):
            seeds = corpus.order[start : start + ROWS]
            scores = similarities(corpus.vectors[seeds], corpus.vectors)
            for seed, row in zip(seeds, scores, strict=True):
                row[seed] = -np.inf
                pieces, size = [corpus.whole(seed)], int(corpus.tokens[seed])
                for neighbour in best(row, numbers, len(corpus) - 1)[0].tolist():
                    if size >= corpus.target + SLACK:
                        break
                    pieces.append(corpus.whole(neighbour))
                    size += int(corpus.tokens[neighbour])
                if size >= corpus.target + SLACK:
                    out.append(pieces)
                if len(out) == wanted:
                    return out
        return out
