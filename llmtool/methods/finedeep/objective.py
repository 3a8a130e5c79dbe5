"""Finedeep in training: no loss of its own, the scores as figures, vectors as vectors, and the ramp.

--set finedeep.ramp=STEPS: begin as the dense layer cut in parallel parts (t = 0) and become sequential over the first
STEPS updates (t = 1). The written model is always that of t = 1: let the ramp end well before the run.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.numbers import whole
from llmtool.core.run.wording import counted
from llmtool.core.train.objective import Batch, Figures, Term
from llmtool.methods.finedeep.part import NAME, SCORES, FinedeepFFN, Settings, read_settings

DEAD, FULL = 0.05, 0.95
"""Mean scores below and above which an expert counts as dead or as always on."""


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: ramp."""
    for key in options:
        if key != "ramp":
            raise UserError(f"{NAME}.{key} is not known", where="--set", hint=closest(key, ["ramp"]) or "ramp")
    steps = whole(options.get("ramp", "0"), f"{NAME}.ramp", high=1 << 40, where="--set")
    return Scores(read_settings(settings, config), steps)


class Scores(Term):
    """finedeep.score: mean by sub-layer; finedeep.dead, finedeep.full: shares of all experts; finedeep.blend: t."""

    def __init__(self, settings: Settings, ramp: int = 0) -> None:
        self.settings, self.ramp, self.blend = settings, ramp, 1.0

    def before_step(self, decoder: Decoder, step: int, steps: int) -> None:
        """Move t; a ramp that would not have ended with the run is refused: what is written is the model of t = 1."""
        if not self.ramp:
            return
        if self.ramp >= steps:
            raise UserError(
                f"{NAME}.ramp={self.ramp}: the run has {counted(steps, 'step')}, and the ramp must end before it does"
            )
        self.blend = min(1.0, step / self.ramp)
        for part in decoder.modules():
            if isinstance(part, FinedeepFFN):
                # A tensor that is written in place: a compiled graph is not made anew for each step.
                if part.blend is None:
                    part.blend = torch.zeros((), device=next(part.parameters()).device)
                part.blend.fill_(self.blend)

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss as it is."""
        counted = batch.counted.to(torch.float32)[..., None]
        total = counted.sum().clamp(min=1)
        places = [f"{layer}.{sub}" for layer in self.settings.layers for sub in range(self.settings.sublayers)]
        means = torch.stack([(carry.shared[SCORES + p].detach() * counted).sum((0, 1)) / total for p in places])
        figures[f"{NAME}.score"] = means.mean(-1)
        figures[f"{NAME}.dead"] = (means < DEAD).float().mean()
        figures[f"{NAME}.full"] = (means > FULL).float().mean()
        if self.ramp:
            figures[f"{NAME}.blend"] = torch.tensor(self.blend, device=loss.device)
        return loss

    def vector(self, name: str) -> bool:
        """The experts' vectors r stand in a matrix, but are none: no weight decay, and nothing to orthogonalise."""
        return name.endswith(".router") and ".mlp.sub." in name
