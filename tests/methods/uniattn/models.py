"""Tiny models with shared softmaxes, in float64."""

from typing import Any

import torch
from torch import nn

from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.model import build

GROUPS = [[1, 2, 3], [5, 6]]
LAYERS = 7


MAP = {
    2: [(1, 2), (1, 2), (1, 0), (1, 1)],  # no permutation, and across key-value heads
    3: [(1, 3), (1, 0), (0, 1), (1, 1)],  # of a layer that leads nobody, too
    6: [(5, 0), (1, 2), (4, 3), (0, 0)],  # of another group's leader
}
"""(layer, head) that each head of a follower of GROUPS reads."""


def config(
    groups: list[list[int]] | None = None,
    compensation: Any = "linear",
    kind: str = "uniattn",
    heads: Any = None,
    **more: Any,
) -> Config:
    """Seven layers with four query heads on two key-value heads; heads: a head map."""
    entry: dict[str, Any] = {"name": kind, "version": 1, "groups": GROUPS if groups is None else groups}
    if heads is not None:
        entry.update(version=2, head_map={str(layer): [list(pair) for pair in of] for layer, of in heads.items()})
    if kind == "uniattn":
        entry["compensation"] = compensation
    methods = (entry,) if entry["groups"] else ()
    settings: dict[str, Any] = {"windows": (None,) * LAYERS, "methods": methods, **more}
    return Config("llama", 97, 32, 48, LAYERS, 4, 2, 8, 256, **settings)


def decoder(settings: Config, std: float = 0.4, dtype: torch.dtype = torch.float64) -> Decoder:
    """Weights of this standard deviation."""
    torch.manual_seed(5)
    model = build(settings).to(dtype)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1 if "norm" in name else std)
    return model.eval()


def draw(rows: int = 2, length: int = 20) -> torch.Tensor:
    """Ids [rows, length]."""
    return torch.randint(2, 96, (rows, length), generator=torch.Generator().manual_seed(3))
