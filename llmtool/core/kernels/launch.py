"""What a host function needs to know of the device before it launches a kernel."""

import os
from functools import lru_cache

import torch


def interpreting() -> bool:
    """Whether Triton runs kernels in Python, on any machine: set before it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def multiprocessors(device: torch.device) -> int:
    """How many there are; interpreted, 2: more than one, so that loops over programs are walked."""
    if device.type != "cuda":
        return 2
    return _multiprocessors(device.index if device.index is not None else torch.cuda.current_device())


@lru_cache
def _multiprocessors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


@lru_cache
def architecture(index: int) -> str:
    """sm_90."""
    major, minor = torch.cuda.get_device_capability(index)
    return f"sm_{major}{minor}"


@lru_cache
def device_name(index: int) -> str:
    """As the driver spells it: "NVIDIA H200"."""
    return torch.cuda.get_device_name(index)
