"""What the CPU can do: element types that it has instructions for, and threads that do not fight for it."""

import os
from functools import cache
from pathlib import Path

import torch

from llmtool.core.run.errors import UserError

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp"},
}
"""Flags of /proc/cpuinfo, x86 and ARM, any of which makes products of a type fast."""


@cache
def flags() -> frozenset[str]:
    """Features of the CPU; empty where the system does not say."""
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return frozenset(line.partition(":")[2].split())


def has_instructions(kind: torch.dtype) -> bool:
    """Whether products of this type run in hardware; true where the system does not say.

    Without, torch computes bfloat16 in software: SmolLM2-135M read text at a fifth of float32's speed.
    """
    known = flags()
    return not known or kind not in INSTRUCTIONS or bool(INSTRUCTIONS[kind] & known)


def use_threads(number: int | None, *, by_load: bool = True) -> int:
    """Let torch compute with so many threads; None: as many as torch has chosen and other work leaves cores for.

    by_load False: as many as torch has chosen, however busy the machine is. Sums differ in their last bits with the
    number of threads, and what is written or resumed must come out the same.

    Threads that wait for one which has no core are slower than one alone: SmolLM2-135M made 1.8 tokens a second with
    two threads, and 5.0 with one, on two cores that 17 processes wanted. Returns their number.
    """
    if number is None and not by_load:
        return torch.get_num_threads()
    if number is None:
        number = free_threads(torch.get_num_threads(), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
    if not 1 <= number <= 1024:
        raise UserError(f"--threads {number}: wanted 1 to 1024")
    torch.set_num_threads(number)
    return number


def free_threads(most: int, load: float) -> int:
    """Of `most` threads those that cores are free for, at least one, where `load` processes want to run."""
    return max(1, min(most, round((os.cpu_count() or 1) - load)))
