"""What a conversion will cost and give, from the config and the headers alone; torch is not imported."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    from llmtool.core.model.config import Config


def numbers(text: str | None, layers: int) -> list[int]:
    """--layers: "4-20", "0,3,8-11"; None for all."""
    if text is None:
        return list(range(layers))
    found: set[int] = set()
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--layers {text}: {piece.strip()!r} is no layer and no range", hint="4-20, or 0,3,8-11")
        low, high = int(first), int(last or first)
        if low > high or high >= layers:
            raise UserError(f"--layers {text}: the layers of this model are 0 to {layers - 1}")
        found.update(range(low, high + 1))
    return sorted(found)


def refuse_share(share: float) -> None:
    """A share of blocks is above 0 and up to 1."""
    if not 0 < share <= 1:
        raise UserError(f"--share {share:g}: wanted a share above 0 and up to 1", hint="0.375 is 3 of 8")


def cost(
    facts: dict[str, Any], config: "Config", experts: int, layers: Sequence[int], share: float, bias: bool
) -> dict[str, Any]:
    """Parameters and FLOPs a token (without attention over positions) before and after.

    facts: of the dense checkpoint (commands.convert.inspect). Of a converted layer's matrices, 3 d I parameters are
    in blocks; a router has d n, and n biases.
    """
    hidden, inner, number = config.hidden_size, config.intermediate_size, len(layers)
    blocks, router = 3 * hidden * inner * number, hidden * experts * number
    biases = experts * number if bias else 0
    parameters, flops = facts["parameters"], facts["flops_per_token"]
    total = parameters + router + biases

    def left(part: float) -> int:
        return round(blocks * (1 - part))

    return {
        "expert_size": inner // experts,
        "share": share,
        "before": {"parameters": parameters, "flops": flops, "ffn_flops": 6 * hidden * inner},
        "after": {
            "parameters": total,
            "active_parameters": total - left(share),
            "active_share": (total - left(share)) / max(1, parameters),
            "flops_all": flops + 2 * router,
            "flops_at_share": flops + 2 * router - 2 * left(share),
            "flops_one": flops + 2 * router - 2 * left(1 / experts),
        },
    }
