"""What Llama 3.1 divides its rotary frequencies by, as GGUF stores it: to know the rotation by its numbers."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def divisors_of(theta: float, size: int, scaling: Mapping[str, Any]) -> "torch.Tensor":
    """Divisors [size / 2] of heads of `size` dimensions; scaling as rope_scaling says it."""
    import torch

    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    length = scaling["original_max_position_embeddings"]
    wavelength = 2 * math.pi * theta ** (torch.arange(0, size, 2).float() / size)
    smooth = (length / wavelength - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    divisors = torch.where(wavelength > length / low, torch.full_like(wavelength, factor), between)
    return torch.where(wavelength < length / high, torch.ones_like(wavelength), divisors)
