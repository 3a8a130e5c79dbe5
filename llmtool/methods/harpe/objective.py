"""The optional ramp of training: log b_h(t) goes linearly from the model's old base to b_h over the first steps.

No identity start exists: new bases change every score at once, and the paper just swaps and trains. The ramp is ours,
off unless `train --set harpe.ramp=STEPS` asks for it. It never stands in a checkpoint: what is written holds the bases
themselves.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.numbers import whole
from llmtool.core.run.wording import counted
from llmtool.core.train.objective import Term
from llmtool.methods.harpe.part import HarpeRope


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:  # noqa: ARG001 - a Term
    """The term of a checkpoint's method entry; options: ramp."""
    for key in options:
        if key != "ramp":
            raise UserError(f"harpe.{key} is not known", where="--set", hint=closest(key, ["ramp"]) or "ramp")
    steps = whole(options.get("ramp", "0"), "harpe.ramp", high=1 << 40, where="--set")
    return Ramp(steps)


class Ramp(Term):
    """Moves the rope part's share from 0 to 1 in `steps` updates; 0: the bases hold from the start."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def before_step(self, decoder: Decoder, step: int, steps: int) -> None:
        """Set the share of this update: (step + 1) / ramp, so that the ramp's last update runs on the bases."""
        if not self.steps:
            return
        if self.steps > steps:
            what = (
                f"harpe.ramp={self.steps}: the run has {counted(steps, 'step')} and ends before the bases are reached"
            )
            raise UserError(what, where="--set")
        for rope in decoder.ropes.values():
            assert isinstance(rope, HarpeRope)
            if step + 1 >= self.steps:
                rope.share = None
            elif rope.share is None:
                rope.share = torch.tensor((step + 1) / self.steps, device=decoder.lm_head.weight.device)
            else:  # in place: torch.compile then sees the same tensor in every step
                rope.share.fill_((step + 1) / self.steps)
