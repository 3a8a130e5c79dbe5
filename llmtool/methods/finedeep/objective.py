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
from llmtool.core.train.objective import IGNORED, Batch, Figures, Term
from llmtool.methods.finedeep.part import NAME, SCORES, FinedeepFFN, Settings, read_settings

DEAD, FULL = 0.05, 0.95
"""Mean scores below and above which an expert counts as dead or as always on."""


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: ramp."""
    for key in options:
        if key != "ramp":
            raise UserError(f"{NAME}.{key} is not known", where="--set", hint=closest(key, ["ramp"]) or "ramp")
    text = options.get("ramp", "0")
    if not text.isdecimal():
        raise UserError(f"{NAME}.ramp={text}: not a number of steps", where="--set")
    return Scores(read_settings(settings, config), int(text))


class Scores(Term):
    """finedeep.score: mean by sub-layer; finedeep.dead, finedeep.full: shares of all experts; finedeep.blend: t."""

    def __init__(self, settings: Settings, ramp: int = 0) -> None:
        self.settings, self.ramp, self.step = settings, ramp, 0
        self.parts: list[FinedeepFFN] = []

    def attach(self, decoder: Decoder) -> None:
        """Remember the parts whose t is moved."""
        self.parts = [module for module in decoder.modules() if isinstance(module, FinedeepFFN)]
        self._blend()

    def _blend(self) -> None:
        for part in self.parts:
            if self.ramp:
                t = min(1.0, self.step / self.ramp)
                device = next(part.parameters()).device
                if part.blend is None or part.blend.device != device:
                    part.blend = torch.tensor(t, device=device)
                else:
                    part.blend.fill_(t)

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss as it is."""
        counted = (batch.labels != IGNORED).to(torch.float32)[..., None]
        total = counted.sum().clamp(min=1)
        places = [f"{layer}.{sub}" for layer in self.settings.layers for sub in range(self.settings.sublayers)]
        means = torch.stack([(carry.shared[SCORES + p].detach() * counted).sum((0, 1)) / total for p in places])
        figures[f"{NAME}.score"] = means.mean(-1)
        figures[f"{NAME}.dead"] = (means < DEAD).float().mean()
        figures[f"{NAME}.full"] = (means > FULL).float().mean()
        if self.ramp:
            figures[f"{NAME}.blend"] = torch.tensor(min(1.0, self.step / self.ramp), device=loss.device)
        return loss

    def vector(self, name: str) -> bool:
        """The experts' vectors r stand in a matrix, but are none: no weight decay, and nothing to orthogonalise."""
        return name.endswith(".router") and ".mlp.sub." in name

    def after_step(self, figures: Mapping[str, Any]) -> None:
        """A step nearer to t = 1."""
        self.step += 1
        self._blend()

    def state(self) -> dict[str, Any]:
        """Where the ramp stands."""
        return {"step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.step = int(state["step"])
        self._blend()
