"""HARPE, literally and slowly: the rotation of section 2 and our reading of its search for bases.

The paper's Algorithm 1 leaves the waveform, its window and the sum over pairs open, and none of 24 readings gives its
published table; `search` is a reading of ours, and is never called the paper's.
"""

import cmath
import math
from collections.abc import Sequence


def turn(x: Sequence[float], position: int, base: float) -> list[float]:
    """A vector [d] of one head at a position: the pair (i, i + d/2) turns by m b^(-2i/d)."""
    half = len(x) // 2
    turned = [complex(x[i], x[i + half]) * cmath.exp(1j * position * base ** (-2 * i / len(x))) for i in range(half)]
    return [z.real for z in turned] + [z.imag for z in turned]


def waveform(base: float, size: int, window: int) -> list[float]:
    """w_b(m) = sum over i of cos(m b^(-2i/d)), m = 1 .. window - 1."""
    return [sum(math.cos(m * base ** (-2 * i / size)) for i in range(size // 2)) for m in range(1, window)]


def extrema(wave: Sequence[float]) -> tuple[list[int], list[int]]:
    """Places m of the strict local maxima and minima."""
    inner = range(1, len(wave) - 1)
    peaks = [m + 1 for m in inner if wave[m - 1] < wave[m] > wave[m + 1]]
    valleys = [m + 1 for m in inner if wave[m - 1] > wave[m] < wave[m + 1]]
    return peaks, valleys


def near(places: Sequence[int], others: Sequence[int]) -> float:
    """Mean distance from a place to the nearest of the others."""
    return sum(min(abs(place - other) for other in others) for place in places) / len(places)


def search(candidates: Sequence[float], heads: int, size: int, window: int) -> list[int]:
    """Indices of `heads` candidates in the order in which they are chosen: peaks of one lie near valleys of another.

    Starts from candidate 0; then always d_j = near(peaks of j, valleys so far) + near(valleys of j, peaks so far),
    the least taken, of equal ones the first; what was chosen is no candidate any more.
    """
    found = [extrema(waveform(base, size, window)) for base in candidates]
    chosen = [0]
    while len(chosen) < heads:
        peaks = [place for j in chosen for place in found[j][0]]
        valleys = [place for j in chosen for place in found[j][1]]
        left = [j for j in range(len(candidates)) if j not in chosen]
        distances = {j: near(found[j][0], valleys) + near(found[j][1], peaks) for j in left}
        chosen.append(min(left, key=lambda j: (distances[j], j)))
    return chosen
