"""NaN and infinity in weights: found in one pass, without a copy."""

import math
from typing import TYPE_CHECKING

from llmtool.core.checkpoint.dtypes import torch_for_weights, type_of
from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    import torch


def refuse_not_finite(tensor: "torch.Tensor", where: str, hint: str | None = None) -> None:
    """Refuse a tensor that holds NaN or infinity, saying how many and where the first one is."""
    torch = torch_for_weights()
    if not tensor.numel() or not type_of(tensor).floating:
        return
    if type_of(tensor).quantized:  # torch does no arithmetic on these
        tensor = tensor.float()
    # NaN propagates through aminmax; unlike isfinite it makes no second tensor.
    if all(math.isfinite(bound.item()) for bound in tensor.aminmax()):
        return
    wrong = ~torch.isfinite(tensor)
    first = [int(place) for place in wrong.nonzero()[0]]
    what = f"{int(wrong.sum()):,} of {tensor.numel():,} numbers are NaN or infinite, the first at {first}"
    raise UserError(what, where=where, hint=hint)
