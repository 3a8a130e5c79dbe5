"""What a model holds and what a token costs, from its parts themselves: parameters, active ones, FLOPs.

FLOPs count 2 for each element of each matrix that a token meets; norms, biases and softmax, below a percent, and
attention over positions are left out. Of stacked experts a token meets `active`, at most. Not exported.
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

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
    for part in module.modules():
        table = isinstance(part, nn.Embedding)
        for parameter in part._parameters.values():
            if parameter is None:
                continue
            number = parameter.numel()
            met = number * part.active // len(part.gate) if isinstance(part, Experts) else number
            if parameter.dim() > 1 and not table:
                flops += 2 * met
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters += number
                active += met
    return Cost(parameters, active, flops)
