"""Optimizers by name, their groups of parameters, and their state as named tensors.

AdamW for everything, or Muon for the matrices of hidden layers and AdamW for the rest. Weight decay is for matrices.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.train.muon import Muon

OUTER = ("embed_tokens", "lm_head")
"""Parts of names of matrices that are tables, not maps between hidden states."""


@dataclass(frozen=True)
class OptimizerSettings:
    """lr is AdamW's peak; muon_lr that of Muon's matrices, the same where it is None."""

    name: str = "adamw"
    lr: float = 1e-3
    muon_lr: float | None = None
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    momentum: float = 0.95

    def check(self) -> "OptimizerSettings":
        """Refuse rates that cannot be meant."""
        if self.name not in ("adamw", "muon"):
            raise UserError(f"optimizer {self.name!r} is not known", hint="one of adamw, muon")
        if not 0 < self.lr < 10 or not (self.muon_lr is None or 0 < self.muon_lr < 10):
            raise UserError(f"a learning rate of {self.lr:g}", hint="above 0; 1e-4 to 1e-2 is usual")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and 0 <= self.weight_decay < 10):
            raise UserError("--beta1 and --beta2 lie between 0 and 1, --weight-decay between 0 and 10")
        return self


class Optimizers:
    """One or two optimizers that step together over the parameters that may move."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        settings: OptimizerSettings,
        vector: Callable[[str], bool] = lambda name: False,  # noqa: ARG005 - a name
    ) -> None:
        self.names: dict[int, str] = {}
        moving: list[nn.Parameter] = []
        inner, tables, vectors = [], [], []
        for name, parameter in named:
            if not parameter.requires_grad or id(parameter) in self.names:
                continue
            self.names[id(parameter)] = name
            moving.append(parameter)
            if parameter.dim() < 2 or vector(name):
                vectors.append(parameter)
            elif parameter.dim() == 2 and not any(part in name for part in OUTER):
                inner.append(parameter)
            else:
                tables.append(parameter)
        self.parameters = moving
        self.peak = settings.lr
        self._all: list[torch.optim.Optimizer] = []
        rate = {"lr": settings.lr, "betas": (settings.beta1, settings.beta2), "eps": settings.eps}
        if settings.name == "muon" and inner:
            lr = settings.lr if settings.muon_lr is None else settings.muon_lr
            self._all.append(Muon(inner, lr, settings.momentum, settings.weight_decay))
            inner = []
        groups = [
            {"params": inner + tables, "weight_decay": settings.weight_decay, **rate},
            {"params": vectors, "weight_decay": 0.0, **rate},
        ]
        groups = [group for group in groups if group["params"]]
        if groups:
            # The fused kernel reads each number once: 3 to 5 times the speed of the plain loop, on a CPU too.
            self._all.append(torch.optim.AdamW(groups, fused=True))
        for group in self._groups():
            group["peak"] = group["lr"]

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self._all:
            yield from optimizer.param_groups

    def step(self, share: float) -> None:
        """One update at this share of each group's peak rate; gradients are let go."""
        for group in self._groups():
            group["lr"] = group["peak"] * share
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state, the very ones: NAME/KEY."""
        return {
            f"{self.names[id(parameter)]}/{key}": value
            for optimizer in self._all
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
            if torch.is_tensor(value)
        }

    def make_state(self) -> None:
        """Make the state that the first step would make, as zeros, so that tensors can be read into it."""
        for optimizer in self._all:
            muon = isinstance(optimizer, Muon)
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    state = optimizer.state[parameter]
                    if not muon:
                        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    for key in ("momentum",) if muon else ("exp_avg", "exp_avg_sq"):
                        state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def freeze(named: Iterable[tuple[str, nn.Parameter]], trainable: Callable[[str], bool]) -> tuple[int, int]:
    """Let only these parameters move; returns (moving, all) numbers of elements. None moving is refused."""
    moving = total = 0
    for name, parameter in named:
        parameter.requires_grad_(trainable(name))
        total += parameter.numel()
        moving += parameter.numel() * parameter.requires_grad
    if not moving:
        raise UserError("no parameter may move: there is nothing to train")
    return moving, total
