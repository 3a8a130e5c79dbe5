"""LLaMA-MoE's balance loss: the squared coefficient of variation of the experts' summed weights, times 0.01."""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.experts import CHOSEN, SCORES
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import Batch, Figures, Term

COEFFICIENT = 0.01


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:  # noqa: ARG001 - the contract's
    """The term of a checkpoint's method entry; it takes no option."""
    if options:
        raise UserError(f"llama_moe.{min(options)} is not known", where="--set", hint="it has none")
    return Balance(config.num_hidden_layers)


class Balance(Term):
    """Mean over the layers of cv^2 of the importance of the experts."""

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss with the penalty; tokens without a target do not count."""
        counted = batch.counted.to(torch.float32)
        penalties = []
        for layer in range(self.layers):
            scores, chosen = carry.shared[f"{SCORES}{layer}"], carry.shared[f"{CHOSEN}{layer}"]
            weights = scores.gather(-1, chosen)
            weights = weights / weights.sum(-1, keepdim=True) * counted[..., None]
            importance = scores.new_zeros(scores.shape[-1]).scatter_add(0, chosen.flatten(), weights.flatten())
            penalties.append(importance.var() / (importance.mean().square() + 1e-10))
        penalty = torch.stack(penalties).mean()
        figures["llama_moe.balance"] = penalty.detach()
        return loss + COEFFICIENT * penalty
