"""Muon: momentum, then each matrix's update replaced by the nearest orthogonal one (Jordan et al. 2024).

For the matrices of hidden layers only; embeddings, the output layer and vectors go to AdamW (optimizers.py).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, chosen by its authors for the steepest rise at 0; singular values end in 0.7 to 1.2."""
ITERATIONS = 5


def orthogonalise(matrix: torch.Tensor, iterations: int = ITERATIONS, dtype: torch.dtype | None = None) -> torch.Tensor:
    """[m, n] -> about U V^T of its singular value decomposition, by Newton-Schulz; bf16 on a GPU, else float32."""
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype or (torch.bfloat16 if matrix.is_cuda else torch.float32))
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; scaled by 0.2 sqrt(max(m, n)) so that AdamW's rates and decay fit (Moonlight).

    A matrix that is sharded over processes is gathered, orthogonalised by each, and each keeps its part.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                ahead = matrix.grad.lerp(state["momentum"], group["momentum"])
                scale = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(_orthogonalise_whole(ahead), alpha=-group["lr"] * scale)


def _orthogonalise_whole(update: torch.Tensor) -> torch.Tensor:
    """As orthogonalise, for a tensor that may be sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(update, DTensor):
        return orthogonalise(update)
    whole = orthogonalise(update.full_tensor())
    return distribute_tensor(whole, update.device_mesh, update.placements)
