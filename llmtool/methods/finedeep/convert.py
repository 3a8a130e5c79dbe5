"""A dense layer -> Finedeep's: its neurons cut into M sub-layers of K experts, scores 1/2 for every token.

M = 1 is the dense layer exactly: c s = 1, and the block product multiplies by 1.0. For M > 1 no exact start exists, as
sub-layer 2 reads a stream that sub-layer 1 has changed; with the ramp of objective.py training begins at the dense
layer all the same.
"""

import torch

from llmtool.core.model.config import Config
from llmtool.core.model.upcycling import NORM, Tensors
from llmtool.methods.finedeep.part import Settings


def cut(
    dense: Tensors, config: Config, settings: Settings, order: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Tensors of the part by the names they have behind "mlp."; order [D]: of the neurons, as they are if None."""
    made = {}
    dtype = dense["gate_proj.weight"].dtype
    for kind in ("gate", "up", "down"):
        dim = 1 if kind == "down" else 0
        whole = dense[f"{kind}_proj.weight"]
        whole = whole if order is None else whole.index_select(dim, order)
        for m, piece in enumerate(whole.chunk(settings.sublayers, dim)):
            made[f"sub.{m}.{kind}_proj.weight"] = piece.contiguous()
    for m in range(settings.sublayers):
        if settings.router != "none":
            made[f"sub.{m}.router"] = torch.zeros(settings.experts, config.hidden_size, dtype=dtype)
            if settings.bias:
                made[f"sub.{m}.bias"] = torch.zeros(settings.experts, dtype=dtype)
        if m:
            made[f"sub.{m}.norm.weight"] = dense[NORM].clone()
    return made
