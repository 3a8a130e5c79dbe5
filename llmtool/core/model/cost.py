"""What a model holds and what a token costs, from its parts themselves: parameters, active ones, FLOPs.

FLOPs count 2 for each element of each matrix that a token meets; norms, biases and softmax, below a percent, are left
out, and so is attention over positions but in `training_flops`. Of stacked experts a token meets `active`, at most. Not
exported.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from llmtool.core.model.decoder import Decoder
from llmtool.core.model.experts import Experts


@dataclass(frozen=True)
class Cost:
    """Of a model, or of its feed-forward parts alone."""

    parameters: int
    active: int
    """Parameters that a token meets, an embedding's row counted as its table."""
    flops: int
    """Forward, a token; backward is twice that."""

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def cost_of(module: nn.Module) -> Cost:
    """Cost of everything in a module; a parameter that stands in two places counts once, its products twice."""
    parameters = active = flops = 0
    seen: set[int] = set()
    for parameter, met, multiplied in _met(module):
        flops += 2 * met * multiplied
        if id(parameter) not in seen:
            seen.add(id(parameter))
            parameters += parameter.numel()
            active += met
    return Cost(parameters, active, flops)


def _met(module: nn.Module) -> Iterator[tuple[nn.Parameter, int, bool]]:
    """Each parameter of each part, how many of its numbers a token meets, and whether it is multiplied by them."""
    for part in module.modules():
        for parameter in part._parameters.values():
            if parameter is not None:
                number = parameter.numel()
                met = number * part.active // len(part.gate) if isinstance(part, Experts) else number
                yield parameter, met, parameter.dim() > 1 and not isinstance(part, nn.Embedding)


def training_flops(decoder: Decoder, length: int) -> int:
    """FLOPs a token of a training step on rows of so many tokens, as model FLOPs utilisation counts them.

    Forward and the gradient of what goes in, and for matrices that move that of the matrix; attention, three times over
    the positions that a token sees on average (documents of a packed row are not told apart). What recomputation adds
    does not count.
    """
    forward = sum(2 * met for _, met, multiplied in _met(decoder) if multiplied)
    weights = sum(2 * met for parameter, met, multiplied in _met(decoder) if multiplied and parameter.requires_grad)
    attention = 0.0
    for block, window in zip(decoder.model.layers, decoder.config.windows, strict=True):
        seen = min(window or length, length)
        positions = (seen * (seen + 1) / 2 + (length - seen) * seen) / length
        attention += 2 * positions * sum(_width(block, name) for name in ("q_proj", "o_proj"))
    return round(2 * forward + weights + 3 * attention)


def _width(block: nn.Module, name: str) -> int:
    """Numbers of a token's queries, or of what its heads give together; 0 where a layer has no such map of its own."""
    found = getattr(block.self_attn, name, None)
    return 0 if not isinstance(found, nn.Linear) else found.out_features if name == "q_proj" else found.in_features
