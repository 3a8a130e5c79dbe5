"""How routers begin: exactly the dense model, the paper's random numbers, or fitted to a calibration text.

exact     Y = 0 and a bias b, so every gate is sigmoid(b) and every expert is on; the constant scale 1 / sigmoid(b)
          makes every block's weight exactly 1.
paper     Y drawn, no bias: about half of the experts are on at gates near 0.5, and the model is another one.
analytic  Y and b of a logistic regression to the blocks that contribute most, the scale by least squares
          (calibration.py).
ridge     Y and b by ridge regression, for the unit form (ridge.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

BIAS = 139 / 128
"""Near ln 3 (a gate of 0.748; 0.9 would leave half of the slope). A number that bfloat16 and float16 hold, and whose
sigmoid times SCALE is 1 in float32 and in float64: for ln 3 rounded to bfloat16 it is 1 - 2^-23 in float32."""
SCALE = 1 + math.exp(-BIAS)
STD = 0.02
"""Standard deviation of the paper's random routers where config.json names no initializer_range."""

LEAST_SPREAD = 0.1
"""The least standard deviation that a column of a router's inputs is divided by, in units of the columns' median."""


@dataclass(frozen=True)
class Router:
    """A layer's router: weight [n, d] = Y transposed, bias [n] or None, and the constant factor of its gates."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    off_mean: torch.Tensor | None = None
    """What closed blocks add, [n, d]; the unit form's."""

    def tensors(self, layer: int, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
        """By the names they have in a checkpoint."""
        held = {"router.weight": self.weight, "router.bias": self.bias, "off_mean": self.off_mean}
        return {f"model.layers.{layer}.mlp.{name}": x.to(dtype) for name, x in held.items() if x is not None}


def exact(experts: int, hidden: int) -> Router:
    """Every gate open, and the model what it was."""
    return Router(torch.zeros(experts, hidden), torch.full((experts,), BIAS), SCALE)


def paper(experts: int, hidden: int, layer: int, seed: int, std: float = STD) -> Router:
    """Random, without bias."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + layer)
    return Router(torch.randn(experts, hidden, generator=generator) * std, None, 1.0)


def strongest(norms: torch.Tensor, share: float) -> torch.Tensor:
    """The oracle's mask [N, n]: blocks whose part in a token's output is largest, `share` of all; one a token at least.

    norms [N, n]: ||o_i||. Compared as a part of the token's sum, so that tokens differ in how many they get.
    """
    parts = norms / norms.sum(-1, keepdim=True).clamp(min=1e-30)
    wanted = max(1, round(share * parts.numel()))
    mask = parts >= parts.flatten().kthvalue(parts.numel() - wanted + 1).values
    mask[torch.arange(len(mask)), parts.argmax(-1)] = True
    return mask


def spreads(x: torch.Tensor) -> torch.Tensor:
    """What brings the columns of x [N, d] to one scale, [d]: their standard deviations, those of quiet columns raised.

    A trained norm all but closes some columns (weights of 1e-5 in SmolLM2). Divided by their own deviation they would
    get router weights of 1e4, which one step of training on the norm turns into noise.
    """
    deviations = x.std(0, correction=0)
    return deviations.clamp(min=max(1e-6, LEAST_SPREAD * float(deviations.median())))


def regress(x: torch.Tensor, mask: torch.Tensor, decay: float = 1e-3, rounds: int = 40) -> tuple[torch.Tensor, ...]:
    """Logistic regression of mask [N, n] on x [N, d] -> weight [n, d], bias [n]; columns of x are brought to one scale.

    decay: of the squared weights, in units of the mean loss: there may be more dimensions than tokens.
    """
    mean, spread = x.mean(0), spreads(x)
    z, y = (x - mean) / spread, mask.to(x.dtype)
    weight = torch.zeros(mask.shape[1], x.shape[1], requires_grad=True)
    odds = y.mean(0).clamp(1e-3, 1 - 1e-3)
    bias = (odds / (1 - odds)).log().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=rounds, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(F.linear(z, weight, bias), y) + decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach(), bias.detach()
    return weight / spread, bias - (weight * (mean / spread)).sum(-1)


def fit(x: torch.Tensor, norms: torch.Tensor, share: float, tau: float) -> Router:
    """A router for inputs x [N, d] with block norms [N, n], its share of open gates `share`; its scale is still 1."""
    weight, bias = regress(x, strongest(norms, share))
    logits = F.linear(x, weight, bias).flatten()
    tau = min(max(tau, 1e-4), 1 - 1e-4)
    wanted = min(logits.numel(), max(1, round(share * logits.numel())))
    edge = logits.kthvalue(logits.numel() - wanted + 1).values
    below = logits[logits < edge].max() if bool((logits < edge).any()) else edge - 1
    # The threshold goes midway between the last gate that opens and the first that does not.
    return Router(weight, bias - (edge + below) / 2 + math.log(tau / (1 - tau)), 1.0)
