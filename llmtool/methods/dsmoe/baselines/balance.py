"""LLaMA-MoE's balance loss: the squared coefficient of variation of the experts' summed weights, times 0.01."""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED, Batch, Figures, Term
from llmtool.methods.dsmoe.baselines.llama_moe import SCORES

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
        counted = (batch.labels != IGNORED).to(torch.float32)
        scores = torch.stack([carry.shared[f"{SCORES}{layer}"] for layer in range(self.layers)])
        importance = (scores * counted[..., None]).sum((1, 2))
        penalty = (importance.var(-1) / (importance.mean(-1).square() + 1e-10)).mean()
        figures["llama_moe.balance"] = penalty.detach()
        figures["llama_moe.active"] = ((scores.detach() > 0).float().mean(-1) * counted).sum(
            (1, 2)
        ) / counted.sum().clamp(min=1)
        return loss + COEFFICIENT * penalty
