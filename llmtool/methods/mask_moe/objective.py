"""MaskMoE's objective: the balance loss over tokens with a choice; fixed ones cannot be moved by a gradient.

The loads that a run reports are those of all tokens. `mask_moe.active`: experts computed a token, by layer.
`mask_moe.table` puts a table into the layers before the first step: a model of new weights has none, and shows every id
every expert.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.experts import CHOSEN
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.wording import counted
from llmtool.core.train.balance import Balance, coefficient
from llmtool.core.train.objective import Figures, Term
from llmtool.methods.mask_moe.artefact import load_table
from llmtool.methods.mask_moe.part import NAME, MaskFFN, read_settings

OPTIONS = ["coefficient", "table"]


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: coefficient, table."""
    for key in options:
        if key not in OPTIONS:
            raise UserError(f"{NAME}.{key} is not known", where="--set",
                            hint=closest(key, OPTIONS) or f"one of {', '.join(OPTIONS)}")  # fmt: skip
    read = read_settings(settings, config)
    places = [str(layer) for layer in read.layers]
    masks = None
    if path := options.get("table"):
        held = load_table(Path(path))
        if held.experts != read.experts:
            what = f"a table for {counted(held.experts, 'expert')}, the model has {read.experts}"
            raise UserError(what, where=path, hint=f"llmtool data token-experts --experts {read.experts}")
        masks = torch.from_numpy(held.fitting(config.num_hidden_layers, config.vocab_size, path))

    def active(figures: Figures, carry: Carry, counted: torch.Tensor) -> None:
        number = [((carry.shared[CHOSEN + place] >= 0).sum(-1) * counted).sum() for place in places]
        figures[f"{NAME}.active"] = torch.stack(number) / counted.sum().clamp(min=1)

    share = coefficient(NAME, {key: value for key, value in options.items() if key == "coefficient"})
    return MaskedBalance(places, share, active, masks)


class MaskedBalance(Balance):
    """The balance loss, and a table uint8 [layers, vocabulary, bytes] for the layers before the first step."""

    def __init__(self, places: list[str], share: float, active: Any, masks: torch.Tensor | None) -> None:
        super().__init__(NAME, places, share, active)
        self.masks = masks

    def before_step(self, decoder: Decoder, step: int, steps: int) -> None:
        """Once: a run that is resumed finds the table in its checkpoint."""
        if self.masks is None or step:
            return
        for part in decoder.modules():
            if isinstance(part, MaskFFN):
                part.mask.copy_(self.masks[part.layer])
