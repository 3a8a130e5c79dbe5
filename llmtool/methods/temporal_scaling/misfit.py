"""What a law misses of a run: a random function of the log step, nothing at the last one and more the further back.

No law holds in the early transient, and where it misses, it misses neighbouring points alike. Independent errors that
grow backwards, which stood here before, let many early points outvote the last ones on the slope; a fixed cut was
slipped through by runs without a warm-up. So a point's error is a model discrepancy (Kennedy and O'Hagan, 2001) of two
parts in x = log(last / step):

- smooth: an integrated Wiener process that begins at the last step with no value and no slope (the prior of cubic
  smoothing splines: Wahba, 1978), of sd smooth x^1.5 / sqrt 3: the slope of the loss over the log step may wander away
  from the law's, and its last course is believed;
- rough: independent between points, of sd rough x.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Misfit:
    """smooth: sd by which the slope (of the log loss over the log step) wanders over a factor e of steps; rough: sd of
    one point, a factor e before the last."""

    smooth: float
    rough: float

    def covariance(self, steps: Array) -> Array:
        """Of the log losses at some steps, in order, as far as the law is to blame: [steps, steps]."""
        x = np.log(steps[-1] / steps)
        near, far = np.minimum.outer(x, x), np.maximum.outer(x, x)
        return np.asarray(self.smooth**2 * near**2 * (3 * far - near) / 6 + np.diag((self.rough * x) ** 2))

    def whitening(self, steps: Array, sd: Array) -> Array:
        """W [steps, steps], by which errors of independent sd and of this kind become independent, of sd 1."""
        from scipy.linalg import solve_triangular

        root = np.linalg.cholesky(self.covariance(steps) + np.diag(sd**2))
        return np.asarray(solve_triangular(root, np.eye(len(steps)), lower=True))


NONE = Misfit(0.0, 0.0)
USUAL = Misfit(smooth=1.8e-2, rough=6e-3)
"""What benchmarks/scaling.py --sweep chooses on runs of four projects. The optimum is flat: two thirds or
twice the smooth part change the mean of the projects' medians by less than a tenth of a per cent."""
BESIDE = Misfit(smooth=0.0, rough=1.2e-2)
"""Beside finished runs of the same project, which are looked at whole, and which hold what the smooth part leaves open.
With the usual one in its place intervals from 80% of a run held four in five ends."""
