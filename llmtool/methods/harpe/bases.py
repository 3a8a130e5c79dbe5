"""Bases for the heads: the paper's table, evenly spaced ones, a search of ours, or numbers from a file.

A base belongs to a key-value head: with grouped queries a key is turned once. In ascending order over the heads, as the
paper has them (descending differs by the size of its noise).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json
from llmtool.core.run.numbers import real, shown
from llmtool.core.run.wording import counted

GRID = (
    0, 5, 10, 15, 39, 40, 41, 49, 50, 55, 56, 57, 58, 60, 61, 64, 67, 68, 70, 71, 72, 74, 81, 82, 87, 96, 103, 105, 113,
    115, 117, 118,
)  # fmt: skip
"""Table 2 as multiples of the stride above the least base; 32 heads of 128, found on the range 1M .. 5M."""
LEAST, LARGEST, STRIDE = 1_000_000, 5_000_000, 30_000
TARGET = 131_072
"""Context that the table was made for."""
WINDOW = 2048
"""Distances that the search looks at."""

Range = tuple[float, float]
LOWEST = 1.000001
"""A base of 1 turns nothing."""


def range_for(target: int, base: float) -> Range:
    """Ends of the range for a context: in proportion to 1M .. 5M at 128K, never below the model's own base.

    1M and 5M are the bases of the paper's stages for 32K and 128K (section 4); the proportion is ours.
    """
    share = target / TARGET
    return max(base, LEAST * share), max(base, LARGEST * share)


def paper(heads: int, ends: Range) -> list[float]:
    """The published table moved to a range; fewer heads take entries at even ranks (ours)."""
    if heads > len(GRID):
        raise UserError(f"--bases paper: the table has 32 bases, the model {heads} key-value heads", hint="uniform")
    ranks = [round(h * (len(GRID) - 1) / (heads - 1)) for h in range(heads)] if heads > 1 else [len(GRID) - 1]
    low, high = ends
    scale = (high - low) / (LARGEST - LEAST)
    return [low + GRID[rank] * STRIDE * scale for rank in ranks]


def uniform(heads: int, ends: Range) -> list[float]:
    """Evenly spaced from end to end (an ablation of the paper); one head takes the upper end."""
    low, high = ends
    return [low + h * (high - low) / (heads - 1) for h in range(heads)] if heads > 1 else [high]


def search(heads: int, size: int, ends: Range, window: int = WINDOW, steps: int = 134) -> list[float]:
    """Bases whose peaks and valleys fill one another's, by reference.search; ours, not the paper's table.

    size: of a head. The candidates are `steps` places from the lower end, as far apart as the paper's stride is at
    128K: the upper end itself is not among them.
    """
    if heads > steps:
        raise UserError(f"--bases search: {steps} candidates for {heads} key-value heads", hint="uniform")
    low, high = ends
    stride = (high - low) * STRIDE / (LARGEST - LEAST)
    if stride <= 0:
        return [low] * heads
    candidates = [low + i * stride for i in range(steps)]
    return sorted(candidates[j] for j in choose(candidates, heads, size, window))


def choose(candidates: Sequence[float], heads: int, size: int, window: int) -> list[int]:
    """As reference.search: indices in the order in which they are chosen."""
    places = np.arange(1, window, dtype=np.float64)
    powers = np.arange(0, size, 2, dtype=np.float64) / size
    found = [_extrema(np.cos(places[:, None] * base**-powers).sum(1)) for base in candidates]
    for base, (peaks, valleys) in zip(candidates, found, strict=True):
        if not (len(peaks) and len(valleys)):
            raise UserError(f"--bases search: base {base:,.0f} has no peak within {window:,} positions", hint="uniform")
    chosen, left = [0], list(range(1, len(candidates)))
    while len(chosen) < heads:
        peaks = np.unique(np.concatenate([found[j][0] for j in chosen]))
        valleys = np.unique(np.concatenate([found[j][1] for j in chosen]))
        distances = [_near(found[j][0], valleys) + _near(found[j][1], peaks) for j in left]
        chosen.append(left.pop(int(np.argmin(distances))))
    return chosen


Places = npt.NDArray[np.int64]


def _extrema(wave: npt.NDArray[np.float64]) -> tuple[Places, Places]:
    before, here, after = wave[:-2], wave[1:-1], wave[2:]
    peaks, valleys = (here > before) & (here > after), (here < before) & (here < after)
    return np.flatnonzero(peaks) + 2, np.flatnonzero(valleys) + 2


def _near(places: Places, others: Places) -> float:
    at = np.searchsorted(others, places)
    below = np.abs(places - others[np.maximum(at - 1, 0)])
    above = np.abs(places - others[np.minimum(at, len(others) - 1)])
    return float(np.minimum(below, above).mean())


def read(path: Path, heads: int, layers: int) -> list[float] | list[list[float]]:
    """Bases from a file: JSON, a list with one number for each key-value head, or such a list for each layer."""
    if not path.exists():
        raise UserError("no such file", where=str(path), hint="--bases paper, uniform, search or a file")
    row = read_json(path)
    if isinstance(row, list) and any(isinstance(entry, list) for entry in row):
        if len(row) != layers:
            raise UserError(f"bases of {counted(len(row), 'layer')}; the model has {layers}", where=str(path))
        return [_one_layer(entry, heads, f"{path}: layer {layer}") for layer, entry in enumerate(row)]
    return _one_layer(row, heads, str(path))


def _one_layer(row: Any, heads: int, where: str) -> list[float]:
    if not isinstance(row, list) or len(row) != heads:
        what = f"{shown(row)} is not a list of {heads} bases above 1, one for each key-value head"
        raise UserError(what, where=where)
    return [real(base, "base", low=LOWEST, high=1e30, where=where) for base in row]
