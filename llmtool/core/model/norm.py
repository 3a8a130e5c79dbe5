"""RMSNorm as the families compute it: in float32 whatever comes in; they differ in where the weight is applied."""

from collections.abc import Callable

import torch
from torch import nn

from llmtool.core.model.config import Config

Form = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""x [..., size], weight [size], eps -> as x."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [..., size], weight [size] -> as x: the weight is applied after rounding back (Llama)."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return weight * y.to(x.dtype)


def precise(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The weight is applied in float32, then all is rounded (OLMo)."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (weight * y).to(x.dtype)


def plus_one(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The weight is what is added to one, in float32 (Gemma)."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y * (1.0 + weight.float())).to(x.dtype)


FORMS: dict[str, Form] = {"rounded": rms_norm, "precise": precise, "plus_one": plus_one}
"""Config.norm -> what it computes."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    op = "rms_norm"
    """The kernel that may take the place of `compute`; see decoder.Parts.kernels. None for the other forms."""

    def __init__(self, size: int, eps: float, form: str = "rounded") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if form == "plus_one" else torch.ones(size))
        self.eps, self.form = eps, form
        self.compute: Form = FORMS[form]
        if form != "rounded":
            self.op = ""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., size]."""
        return self.compute(x, self.weight, self.eps)


def make_norm(config: Config, size: int) -> RMSNorm:
    """A norm of this width as the config's family computes it."""
    return RMSNorm(size, config.rms_norm_eps, config.norm)
