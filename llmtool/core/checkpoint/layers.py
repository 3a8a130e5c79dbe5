"""Layers by number: of a tensor's name, and as people write them."""

import re
from typing import TYPE_CHECKING

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import whole

if TYPE_CHECKING:
    from llmtool.core.checkpoint.directory import CheckpointReader


def numbers(text: str | None, layers: int) -> list[int]:
    """--layers: "4-20", "0,3,8-11"; None for all."""
    if text is None:
        return list(range(layers))
    found: set[int] = set()
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first or (dash and not last):
            raise UserError(f"--layers {text}: {piece.strip()!r} is no layer and no range", hint="4-20, or 0,3,8-11")
        low, high = (whole(number, f"--layers {text}:") for number in (first, last or first))
        if low > high or high >= layers:
            raise UserError(f"--layers {text}: the layers of this model are 0 to {layers - 1}")
        found.update(range(low, high + 1))
    return sorted(found)


def layer_of(name: str) -> int:
    """Number of the layer that a tensor belongs to; -1 for those outside."""
    match = re.match(r"model\.layers\.(\d+)\.", name)
    return whole(match[1], "layer", where=name) if match else -1


def by_layer(checkpoint: "CheckpointReader") -> list[str]:
    """Names in the order of the layers, so that a stream that collects a layer holds no other."""
    return sorted(checkpoint.names(), key=layer_of)
