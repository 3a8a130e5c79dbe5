"""Means over seeds with 95% intervals, as every table here has them."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its interval by Student's t; infinite for one value, from which nothing can be told."""
    mean, count = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5) if count > 1 else float("inf")
    return mean, half
