"""Text cut by bytes: nothing lost, nothing too long, no character cut."""

import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.eval.same_bytes import cut_by_bytes


@given(st.lists(st.text("aé漢 \n", max_size=60), max_size=4), st.integers(8, 40), st.integers(1, 300))
def test_pieces(documents: list[str], size: int, most: int) -> None:
    encoded = [document.encode() for document in documents]
    pieces = list(cut_by_bytes(encoded, size, most))
    together = b"".join(pieces)
    assert b"".join(encoded).startswith(together)
    assert all(0 < len(piece) <= size for piece in pieces)
    assert len(together) <= most
    if most >= len(b"".join(encoded)):
        assert together == b"".join(encoded)
    for piece in pieces:
        assert len(piece.decode(errors="replace").replace("\ufffd", "")) > 0 or len(piece) < 4
