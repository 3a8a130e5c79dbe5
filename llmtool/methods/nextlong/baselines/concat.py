"""The standard way: documents in random order, cut every T tokens."""

from itertools import islice

from llmtool.methods.nextlong.baselines.documents import Documents, Piece


class Concat:
    """Documents in the order of a hash."""

    name = "concat"

    def samples(self, corpus: Documents, wanted: int) -> list[list[Piece]]:
        """See Baseline."""
        return list(islice(corpus.fill(corpus.order), wanted))
