"""The token embedding, and the output layer's last step, as the families scale them."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.config import Config


def embed(config: Config, ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """ids [B, T], weight [vocabulary, d] -> the residual stream before the first layer, [B, T, d]."""
    h = F.embedding(ids, weight)
    if config.embedding == "sqrt":
        # Gemma rounds the factor to the weights' type: 33.94 is 34.0 in bfloat16.
        return h * torch.tensor(config.hidden_size**0.5, dtype=weight.dtype, device=h.device)
    return h if config.embedding_scale == 1 else h * config.embedding_scale


def finish_logits(config: Config, logits: torch.Tensor) -> torch.Tensor:
    """What the output layer gave [..., vocabulary] -> logits: divided (Granite), capped (Gemma-2)."""
    if config.logits_divisor != 1:
        logits = logits / config.logits_divisor
    if config.logits_cap is not None:
        logits = torch.tanh(logits / config.logits_cap) * config.logits_cap
    return logits


class Embedding(nn.Embedding):
    """`embed` with a table of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.vocab_size, config.hidden_size)
        self.settings = config

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [B, T] -> [B, T, d]."""
        return embed(self.settings, ids, self.weight)
