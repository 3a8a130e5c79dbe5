"""MaskMoE's objective: the balance loss over tokens with a choice; fixed ones cannot be moved by a gradient.

The loads that a run reports are those of all tokens. `mask_moe.active`: experts computed a token, by layer.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.experts import CHOSEN
from llmtool.core.train.balance import Balance, coefficient
from llmtool.core.train.objective import Figures, Term
from llmtool.methods.mask_moe.part import NAME, read_settings


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: coefficient."""
    places = [str(layer) for layer in read_settings(settings, config).layers]

    def active(figures: Figures, carry: Carry, counted: torch.Tensor) -> None:
        number = [((carry.shared[CHOSEN + place] >= 0).sum(-1) * counted).sum() for place in places]
        figures[f"{NAME}.active"] = torch.stack(number) / counted.sum().clamp(min=1)

    return Balance(NAME, places, coefficient(NAME, options), active)
