"""DSMoE's training objective: L_LM + coefficient * mean of G(g) over layers, tokens and experts.

The paper's coefficient is 1. With `target-share` it is moved instead, as in ReMoE (arXiv 2412.14711): times `rate`
after a step in which more blocks were active than wanted, divided by it after any other. `target-share=keep` wants the
share that the first step finds: what the model had before. The mean is over all tokens, those of a prompt too, and no
padding.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.numbers import real
from llmtool.core.train.objective import Batch, Figures, Term
from llmtool.methods.dsmoe.part import GATES, read_settings

START = 0.01
"""Coefficient that the controller starts from: ReMoE's 1e-8 takes a hundred steps of 1.2 to be felt at all."""
BOUNDS = 1e-8, 1e4
"""Limits of the controller: beyond them it could not come back within a run."""

REACHED = 0.03
"""Share of the blocks by which the target may be missed: the controller swings about it."""

OPTIONS = {"coefficient": (0.0, 1e6), "target-share": (1e-6, 1.0), "rate": (1.000001, 10.0)}

KEEP = -1.0
"""As a target share: what the model begins with."""


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: coefficient, target-share, rate."""
    values: dict[str, float] = {}
    for key, text in options.items():
        if key not in OPTIONS:
            hint = closest(key, list(OPTIONS)) or f"one of {', '.join(OPTIONS)}"
            raise UserError(f"dsmoe.{key} is not known", where="--set", hint=hint)
        if key == "target-share" and text == "keep":
            values[key] = KEEP
            continue
        low, high = OPTIONS[key]
        values[key] = real(text, f"dsmoe.{key}", low=low, high=high, where="--set")
    target = values.get("target-share")
    coefficient = values.get("coefficient", 1.0 if target is None else START)
    return Sparsity(read_settings(settings, config).layers, coefficient, target, values.get("rate", 1.2))


class Sparsity(Term):
    """The penalty, its controller, and the figures of a step.

    dsmoe.active: share of blocks that are on, by layer; dsmoe.none: share of tokens without any, by layer.
    dsmoe.penalty: the mean of G(g); dsmoe.coefficient: its weight in this step.
    """

    def __init__(
        self, layers: tuple[int, ...], coefficient: float = 1.0, target_share: float | None = None, rate: float = 1.2
    ) -> None:
        self.layers = layers
        self.coefficient = coefficient
        self.target_share = target_share
        self.rate = rate

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss with the penalty, which reaches the gates that are on and no others."""
        counted = batch.counted.to(torch.float32)
        total = counted.sum().clamp(min=1)
        # [layers, B, T, n]: a mean over layers and experts is a mean of the stack.
        gates = torch.stack([carry.shared[f"{GATES}{layer}"] for layer in self.layers])
        penalty = (gates.mean((0, 3)) * counted).sum() / total
        on = gates.detach() > 0
        figures["dsmoe.penalty"] = penalty.detach()
        figures["dsmoe.coefficient"] = torch.tensor(self.coefficient, device=loss.device)
        figures["dsmoe.active"] = (on.float().mean(-1) * counted).sum((1, 2)) / total
        figures["dsmoe.none"] = ((~on.any(-1)).float() * counted).sum((1, 2)) / total
        return loss + self.coefficient * penalty

    def keep(self) -> None:
        """Want the share that the first step finds."""
        self.target_share, self.coefficient = KEEP, START

    def after_step(self, figures: Mapping[str, Any]) -> None:
        """Move the coefficient toward the target share."""
        if self.target_share is None:
            return
        active = torch.as_tensor(figures["dsmoe.active"], dtype=torch.float64).mean()
        if self.target_share == KEEP:
            self.target_share = float(active)
            return
        factor = self.rate if float(active) > self.target_share else 1 / self.rate
        self.coefficient = min(BOUNDS[1], max(BOUNDS[0], self.coefficient * factor))

    def at_end(self, figures: Mapping[str, Any]) -> tuple[str, bool] | None:
        """The share that was reached beside the one that was wanted."""
        if self.target_share is None or self.target_share == KEEP or "dsmoe.active" not in figures:
            return None
        active = float(torch.as_tensor(figures["dsmoe.active"], dtype=torch.float64).mean())
        said = f"dsmoe: {active:.1%} of the blocks are on, {self.target_share:.1%} were wanted (target-share)"
        if abs(active - self.target_share) <= REACHED:
            return said, True
        return f"{said}: not reached; more steps, or --set dsmoe.rate above {self.rate:g}, bring it nearer", False

    def state(self) -> dict[str, Any]:
        """The coefficient, which the controller moves, and the share that it wants."""
        return {"coefficient": self.coefficient, "target_share": self.target_share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the coefficient of a run that stopped."""
        self.coefficient = real(state["coefficient"], "coefficient", low=0)
        kept = state.get("target_share", self.target_share)
        self.target_share = None if kept is None else real(kept, "target_share", low=KEEP, high=1)
