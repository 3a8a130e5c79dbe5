"""W_c from calibration text: sums over tokens, least squares with a ridge, the paper's form, and low rank.

e = O_base - O_unified is what the residual stream after attention lacks, x the follower's normed attention input, one
row a token: e ~ x W, and Linear.weight = W^T. Where o_proj is fitted anew with it, x has the inputs of o_proj behind it
and W what is added to o_proj. Sums are kept in float64: a layer costs two matrices of d x d, or 2d x 2d.
"""

from dataclasses import dataclass

import torch

from llmtool.core.run.errors import UserError

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Tried on the held-out tenth of the rows, in units of trace(G) / d."""


class Sums:
    """G = sum x^T x, C = sum x^T e, sum |e|^2 and the count, over tokens."""

    def __init__(self, size: int, device: torch.device, outputs: int | None = None) -> None:
        """size: of x; outputs: of e, as many if not given."""
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.cross = self.gram.new_zeros(size, outputs or size)
        self.energy = 0.0
        self.tokens = 0

    def add(self, x: torch.Tensor, error: torch.Tensor) -> None:
        """x [..., size] and error [..., outputs]."""
        x, error = x.flatten(0, -2).double(), error.flatten(0, -2).double()
        self.gram += x.T @ x
        self.cross += x.T @ error
        self.energy += float(error.square().sum())
        self.tokens += len(x)

    def left(self, w: torch.Tensor) -> float:
        """sum |e - x W|^2 as a share of sum |e|^2."""
        remains = self.energy - 2 * (w * self.cross).sum() + (w * (self.gram @ w)).sum()
        return float(remains) / self.energy if self.energy else 0.0


@dataclass(frozen=True)
class Solution:
    """W [size, outputs] in float64, and the ridge that it was found with (None: no ridge)."""

    weight: torch.Tensor
    ridge: float | None


def solve(fitted: Sums, held_out: Sums, ridge: float | None) -> Solution:
    """Least squares over the fitted tokens; ridge None takes the one that leaves least on the held-out tokens, or W = 0
    where every ridge leaves more than there was."""
    unit = float(fitted.gram.trace()) / len(fitted.gram)

    def at(factor: float) -> torch.Tensor:
        regular = fitted.gram + factor * unit * torch.eye(len(fitted.gram), device=fitted.gram.device)
        factored, broken = torch.linalg.cholesky_ex(regular)
        if int(broken):
            what = f"the calibration text does not determine the compensation with a ridge of {factor:g}"
            raise UserError(what, where="--ridge", hint="more text, or 1e-6 and above")
        return torch.cholesky_solve(fitted.cross, factored)

    if ridge is not None:
        return Solution(at(ridge), ridge)
    tried = [Solution(at(factor), factor) for factor in RIDGES] + [Solution(torch.zeros_like(fitted.cross), None)]
    return min(tried, key=lambda found: held_out.left(found.weight))


class Means:
    """x and e averaged over the samples, position by position: what the paper's initialisation looks at."""

    def __init__(self, length: int, size: int, device: torch.device) -> None:
        self.x = torch.zeros(length, size, dtype=torch.float64, device=device)
        self.error = torch.zeros_like(self.x)
        self.samples = 0

    def add(self, x: torch.Tensor, error: torch.Tensor) -> None:
        """x and error [B, T, d]."""
        self.x += x.double().sum(0)
        self.error += error.double().sum(0)
        self.samples += len(x)

    def solve(self) -> Solution:
        """pinv(X) E: of rank T at most."""
        return Solution(torch.linalg.pinv(self.x / self.samples) @ (self.error / self.samples), None)


def low_rank(w: torch.Tensor, gram: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(down [d, R], up [R, d]) with down up nearest to w [d, d] on inputs with x^T x = gram.

    The SVD is of gram^{1/2} w, which is the error that is made, not of w.
    """
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=values.max() * 1e-12).sqrt()
    root, inverse = vectors * values @ vectors.T, vectors / values @ vectors.T
    u, s, v = torch.linalg.svd(root @ w)
    scale = s[:rank].sqrt()
    return inverse @ (u[:, :rank] * scale), scale[:, None] * v[:rank]
