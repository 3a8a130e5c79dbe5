"""How much memory a call takes beyond what was there before it."""

from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
NOISE = 4 << 20
"""Bytes: the C library keeps small blocks, so that a CPU's figure below this means nothing."""


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Largest growth while `call` ran; None where the system does not say, or too small to be told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated(device) - before)
    try:
        CLEAR.write_text("5")  # Linux: the peak of the resident set starts again from what it is
        before = _kilobytes("VmRSS")
        call()
        grown = (_kilobytes("VmHWM") - before) * 1024
    except (OSError, LookupError):
        return None
    return grown if grown > NOISE else None


def _kilobytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)
