"""W + (A / R) up down: a checkpoint without adapters that computes what the one with them does."""

from collections.abc import Iterator, Sequence

import torch

from llmtool.core.checkpoint.directory import CheckpointReader

DOWN, UP = ".lora_down", ".lora_up"


def is_adapter(name: str) -> bool:
    """Whether a tensor of this name is one of an adapter's two."""
    return name.endswith((DOWN, UP))


def first_spread(name: str, shape: Sequence[int]) -> float:
    """Standard deviation of a new adapter's values: lora_up [out, R] begins at zero, so that nothing changes."""
    return float(shape[-1] ** -0.5) if name.endswith(DOWN) else 0.0


def merged(checkpoint: CheckpointReader, scale: float) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) without adapters; sums in float64, results in the type of W."""
    for name in checkpoint.names():
        if is_adapter(name):
            continue
        tensor = checkpoint.read(name)
        stem = name.removesuffix(".weight")
        if name.endswith(".weight") and stem + DOWN in checkpoint:
            change = checkpoint.read(stem + UP).double() @ checkpoint.read(stem + DOWN).double()
            tensor = (tensor.double() + scale * change).to(tensor.dtype)
        yield name, tensor
