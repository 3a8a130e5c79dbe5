"""Means over seeds with 95% intervals, as every table here has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

Span = tuple[float, float]
"""A mean, and half of its interval."""


def interval(values: Sequence[float]) -> Span:
    """Mean, and half of its interval by Student's t; infinite for one value, from which nothing can be told."""
    mean, count = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5) if count > 1 else float("inf")
    return mean, half


def difference(own: Mapping[Any, float], rival: Mapping[Any, float]) -> Span | None:
    """Of own over rival, on the seeds that both have; None where they have none: there is no difference then."""
    paired = [value - rival[seed] for seed, value in sorted(own.items()) if seed in rival]
    return interval(paired) if paired else None


def resolved(span: Span | None) -> bool:
    """Whether the interval leaves 0 out."""
    return span is not None and abs(span[0]) > span[1]


def shown(span: Span | None, digits: int, scale: float = 1.0, unit: str = "") -> str:
    """A difference in a table: open where its interval holds 0, - where there is none, and where no seed differs so."""
    if span is None:
        return "-"
    if tuple(span) == (0.0, 0.0):
        return "the same"
    mean, half = (scale * value for value in span)
    if not np.isfinite(half):
        return f"{mean:+.{digits}f}{unit} (one seed)"
    return f"{mean:+.{digits}f} ± {half:.{digits}f}{unit}{'' if resolved(span) else ' (open)'}"
