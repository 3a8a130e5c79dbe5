"""Needles stand where they should, and are found by who looks."""

import numpy as np
import pytest
import torch

from llmtool.core.eval.niah import Needle, place, random_needle, search, shortest, spelled_needle

V = 50


def haystack(length: int, random: np.random.Generator) -> np.ndarray:
    return random.integers(20, V, length)


def looker(ids: torch.Tensor, last: int) -> torch.Tensor:
    """Finds the key's first place and says what followed it."""
    logits = torch.zeros(len(ids), last, V)
    for row, text in enumerate(ids.tolist()):
        key = text[-last - 1 : len(text) - last + 1]
        start = next(i for i in range(len(text)) if text[i : i + 2] == key)
        for place_ in range(last):
            logits[row, place_, text[start + 2 + place_]] = 10.0
    return logits


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_place(depth: float) -> None:
    needle = Needle([1, 2], [3, 4, 5])
    text = place(np.arange(100, 200), needle, 40, depth).tolist()
    assert len(text) == 40
    assert text[-4:] == [1, 2, 3, 4]
    before = round(depth * (40 - 9))
    assert text[before : before + 5] == [1, 2, 3, 4, 5]
    assert [x for x in text if x >= 100] == list(range(100, 131))
    assert len(place(np.arange(0), needle, shortest(needle), 0.5)) == 9
    with pytest.raises(ValueError):
        place(np.arange(100), needle, shortest(needle) - 1, 0.5)


def test_who_looks_finds_and_who_guesses_does_not() -> None:
    needle = random_needle(range(20), 2, 3)
    lengths, depths = [9, 20, 33], [0.0, 0.5, 1.0]
    cells = search(looker, haystack, needle, lengths, depths, samples=5, seed=0, rows=2)
    assert [(cell.length, cell.depth) for cell in cells] == [(n, d) for n in lengths for d in depths]
    assert all(cell.recall == cell.tokens == 1.0 and cell.loss < 0.01 for cell in cells)
    guess = torch.Generator().manual_seed(0)
    cells = search(lambda ids, n: torch.randn(len(ids), n, V, generator=guess), haystack, needle, [20], [0.5],
                   samples=20, seed=0)  # fmt: skip
    assert cells[0].recall == 0.0
    assert cells[0].tokens < 0.3


def test_spelled_needles() -> None:
    draw = spelled_needle(lambda text: list(text.encode()))
    needle = draw(np.random.default_rng(0))
    assert bytes(needle.key).startswith(b"\nThe secret number of ")
    assert bytes(needle.value).strip(b" .").isdigit()
    assert needle == draw(np.random.default_rng(0))
    assert needle != draw(np.random.default_rng(1))
