"""A dense layer -> MaskMoE's that computes the same: every expert a copy, the weights sum to 1.

Where an id sees one expert, bit for bit; else up to rounding. With top_k 1 the compute is the dense model's.
"""

import torch

from llmtool.core.model.config import Config
from llmtool.core.model.upcycling import Tensors, copies, generator, router
from llmtool.methods.mask_moe.part import Settings


def upcycle(
    layer: int,
    dense: Tensors,
    config: Config,
    settings: Settings,
    mask: torch.Tensor,
    seed: int,
    noise: float,
    std: float = 0.02,
) -> dict[str, torch.Tensor]:
    """Tensors of the part by the names they have behind "mlp."; mask: the layer's table, uint8 [vocabulary, bytes]."""
    dtype = dense["gate_proj.weight"].dtype
    made = {"router.weight": router(seed, layer, "mask", settings.experts, config.hidden_size, std).to(dtype)}
    for kind in ("gate", "up", "down"):
        whole, random = dense[f"{kind}_proj.weight"], generator(seed, layer, kind)
        made[f"experts.{kind}"] = copies(whole, settings.experts, noise, random)
        if settings.shared:  # adds nothing at the start; its down_proj gets a gradient at once
            made[f"shared.{kind}_proj.weight"] = torch.zeros_like(whole) if kind == "down" else whole.clone()
    return {**made, "mask": mask}
