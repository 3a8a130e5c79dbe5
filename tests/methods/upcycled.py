"""What the tests of CartesianMoE, MaskMoE and Finedeep share: a dense checkpoint, parts with random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, parse_config
from llmtool.core.run.console import Console
from llmtool.model import load_model
from tests.methods.dsmoe.models import RAW

QUIET = Console(verbosity=-1)
GRANITE: dict[str, Any] = {
    "model_type": "granite", "residual_multiplier": 0.22, "attention_multiplier": 0.3, "embedding_multiplier": 12,
    "logits_scaling": 4,
}  # fmt: skip
"""What makes a Granite of the tests' config: an update is multiplied by 0.22 before the stream takes it."""
IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(5))


def config(**changes: Any) -> Config:
    return parse_config({**RAW, **changes})


def randomised(part: nn.Module, std: float = 0.4, seed: int = 1, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Every parameter drawn, so that no zero hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))
    return part.to(dtype).eval()


def stream(*shape: int, seed: int = 7, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normed(h: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return h / (h.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def carry(ids: torch.Tensor | None = None) -> Carry:
    empty = torch.zeros(0)
    return Carry(empty, {}, {}, ids=ids)


def logits(path: Path, **settings: Any) -> torch.Tensor:
    return load_model(path, **settings)(IDS)


def edit_entry(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the last method's entry in config.json."""
    file = path / "config.json"
    facts = json.loads(file.read_text())
    change(facts["llmtool"]["methods"][-1])
    file.write_text(json.dumps(facts))
