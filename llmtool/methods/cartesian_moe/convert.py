"""A dense layer -> CartesianMoE's that computes the same: upcycling, with more weights and more compute.

Sub-layer A: every routed expert is the first half of the dense layer's neurons, the shared one the second half, both
with down_proj x 2, so that 1/2 2 FFN_first + 1/2 2 FFN_second is the dense layer. Sub-layer B: the same halves with
down_proj 0, and a copy of the norm. Clones get equal gradients for a token; the routers, which are random, give them
different tokens.
"""

import torch

from llmtool.core.model.config import Config
from llmtool.core.model.upcycling import NORM, Tensors, copies, generator, router
from llmtool.methods.cartesian_moe.part import SUBLAYERS, Settings

KINDS = ("gate", "up", "down")


def upcycle(
    layer: int, dense: Tensors, config: Config, settings: Settings, seed: int, noise: float, std: float = 0.02
) -> dict[str, torch.Tensor]:
    """Tensors of the part by the names they have behind "mlp."; dense: the layer's, its norm included."""
    dtype, hidden = dense["gate_proj.weight"].dtype, config.hidden_size
    made = {"norm.weight": dense[NORM].clone()}
    for place in SUBLAYERS:
        made[f"{place}.router.weight"] = router(seed, layer, place, settings.experts, hidden, std).to(dtype)
        for kind in KINDS:
            whole = dense[f"{kind}_proj.weight"]
            first, second = whole.chunk(2, 1 if kind == "down" else 0)
            scale = 1.0 if kind != "down" else 2.0 if place == "a" else 0.0
            random = generator(seed, layer, f"{place}.{kind}")
            made[f"{place}.experts.{kind}"] = copies(first * scale, settings.experts, noise, random)
            made[f"{place}.shared.{kind}_proj.weight"] = (second * scale).contiguous()
        made[f"{place}.coefficient.weight"] = torch.zeros(2, hidden, dtype=dtype)
        made[f"{place}.coefficient.bias"] = torch.zeros(2, dtype=dtype)
    return made
