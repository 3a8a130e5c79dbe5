"""A schedule told by its logged part: a line or a cosine that ends, at the horizon, at a round share of its peak.

Rates are written to many digits, so that a part of a schedule tells its shape exactly, and with the horizon its end. A
horizon that is not the schedule's own gives an end that is not round, and nothing is known again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEWEST = 8
SEEN = 0.05
"""A rate has fallen by so much of its peak before its shape is told."""
MISSED = 2e-3
"""Every logged rate lies this close to the shape, relative to the peak."""
ENDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Last rates over the peak, as people choose them."""
NEAR = 5e-3
"""How far off one of them the end may lie, by what is missed included."""
STARTS = 65
POINTS = 256


@dataclass(frozen=True)
class Fall:
    """name: "linear fall" or "cosine"; end: the rate at the horizon; steps, rate: beyond the last row."""

    name: str
    end: float
    steps: Array
    rate: Array

    def __str__(self) -> str:
        return f"a {self.name} to {100 * self.end:.0f}% of its peak"


def known_again(steps: Array, rate: Array, horizon: float) -> Fall | None:
    """The shape that all rates from the peak on have, up to a horizon beyond them; None where there is no such one.

    rate: over the peak.
    """
    peak = int(np.argmax(rate))
    t, y = steps[peak:], rate[peak:]
    if len(t) < FEWEST or y[0] - y[-1] < SEEN or horizon <= t[-1]:
        return None
    before = steps[peak - 1] if peak else max(0.0, 2 * t[0] - t[1])
    later = np.linspace(t[-1], horizon, POINTS)
    found: list[tuple[float, str, Array, Array]] = []
    for name, starts in (("linear fall", t[:1]), ("cosine", np.linspace(before, t[0], STARTS))):
        for start in starts:
            seen, ahead = (_progress(name, at, float(start), horizon) for at in (t, later))
            design = np.stack([np.ones_like(t), seen], axis=1)
            (level, height), *_ = np.linalg.lstsq(design, y, rcond=None)
            missed = float(np.abs(design @ [level, height] - y).max())
            # What is missed may hide in the end, the more so the less of the fall was seen.
            hidden = missed / max(float(seen.max() - seen.min()), 1e-9)
            if missed < MISSED and hidden < NEAR:
                found.append((missed, name, np.array([level, height]), ahead))
    if not found:
        return None
    _, name, (level, height), ahead = min(found, key=lambda each: each[0])
    end = float(level + height * ahead[-1])
    nearest = min(ENDS, key=lambda each: abs(each - end))
    if abs(end - nearest) > NEAR or end >= rate[-1]:
        return None
    return Fall(name, nearest, later[1:], np.maximum(level + height * ahead, 0.0)[1:])


def _progress(name: str, t: Array, start: float, horizon: float) -> Array:
    """What the rate of a shape is linear in."""
    share = (t - start) / (horizon - start)
    return share if name == "linear fall" else (1 + np.cos(np.pi * np.clip(share, 0, 1))) / 2
