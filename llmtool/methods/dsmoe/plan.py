"""What a conversion will cost and give, from the config and the headers alone; torch is not imported."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    from llmtool.core.model.config import Config


def refuse_share(share: float) -> None:
    """A share of blocks is above 0 and up to 1."""
    if not 0 < share <= 1:
        raise UserError(f"--share {share:g}: wanted a share above 0 and up to 1", hint="0.375 is 3 of 8")


def cost(
    facts: dict[str, Any],
    config: "Config",
    experts: int,
    layers: Sequence[int],
    share: float,
    bias: bool,
    means: bool = False,
) -> dict[str, Any]:
    """Parameters and FLOPs a token (without attention over positions) before and after.

    facts: of the dense checkpoint (commands.convert.inspect). Of a converted layer's matrices, 3 d I parameters are
    in blocks; a router has d n, and n biases; means (off_mean) are d n more.
    """
    hidden, inner, number = config.hidden_size, config.intermediate_size, len(layers)
    blocks, router = 3 * hidden * inner * number, hidden * experts * number * (2 if means else 1)
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
