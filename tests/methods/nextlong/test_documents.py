"""How an order of documents becomes samples."""

from itertools import islice, pairwise
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from llmtool.methods.nextlong.baselines.documents import SLACK, Documents
from llmtool.methods.nextlong.store import Store


@pytest.mark.parametrize(("size", "target"), [(10, 256), (500, 4096), (9000, 4096)])
def test_a_document_that_is_cut_goes_on_behind_the_cut(size: int, target: int) -> None:
    store = SimpleNamespace(first=np.array([0, 300, 600]))
    documents = Documents(cast(Store, store), np.full(600, size, np.uint32), None, target, 0)
    samples = list(islice(documents.fill([0, 1]), 20))
    assert len(samples) > 10
    for pieces, following in pairwise(samples):
        chunks = [chunk for first, stop in pieces for chunk in range(first, stop)]
        assert len(chunks) * size >= target + SLACK > (len(chunks) - 1) * size
        assert following[0][0] == chunks[0] + -(-target // size)
        assert all(not first < 300 < stop for first, stop in pieces)
