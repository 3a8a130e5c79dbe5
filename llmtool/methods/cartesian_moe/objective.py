"""CartesianMoE's objective: the balance loss over all sub-layers, and how many composite experts are in use.

The released model holds no auxiliary term and the paper's coefficient is not published: form and 0.01 are Switch's.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.experts import CHOSEN
from llmtool.core.train.balance import Balance, coefficient, entropy
from llmtool.core.train.objective import Figures, Term
from llmtool.methods.cartesian_moe.part import NAME, SUBLAYERS, read_settings


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: coefficient."""
    read = read_settings(settings, config)
    places = [f"{layer}.{place}" for layer in read.layers for place in SUBLAYERS]

    def pairs(figures: Figures, carry: Carry, counted: torch.Tensor) -> None:
        """By layer: the share of the N x N pairs that some token took first, and the entropy of their use."""
        found = [histogram(carry, layer, counted, read.experts).flatten() for layer in read.layers]
        figures[f"{NAME}.pairs"] = torch.stack([(counts > 0).float().mean() for counts in found])
        figures[f"{NAME}.pair_entropy"] = torch.stack([entropy(c / c.sum().clamp(min=1)) for c in found])

    return Balance(NAME, places, coefficient(NAME, options), pairs)


def histogram(carry: Carry, layer: int, counted: torch.Tensor, experts: int) -> torch.Tensor:
    """Tokens by the best expert of A and the best of B: counts [N, N] float32; counted bool [B, T]."""
    first, second = (carry.shared[f"{CHOSEN}{layer}.{place}"][..., 0] for place in SUBLAYERS)
    counts = torch.zeros(experts * experts, dtype=torch.float32, device=counted.device)
    counts.scatter_add_(0, (first * experts + second).flatten(), counted.flatten().to(torch.float32))
    return counts.view(experts, experts)
