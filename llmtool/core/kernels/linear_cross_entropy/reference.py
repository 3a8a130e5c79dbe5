"""The plain way: all logits at once, softmax in float32 at least."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

IGNORED = -100
"""Label of a position that is not in the loss; as core.train.objective has it."""


def linear_cross_entropy(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """h [tokens, width], weight [vocabulary, width], labels [tokens] -> loss of each token, 0 where IGNORED."""
    logits = F.linear(h, weight)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
