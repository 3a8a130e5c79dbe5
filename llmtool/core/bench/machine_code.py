"""What the compiler made of a kernel: registers, spills, shared memory, instructions, read from the binary.

Triton's wheel brings the tools, so that no CUDA installation is needed.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SHARED_MEMORY = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 103: 232_448, 120: 101_376}
"""Bytes that one block may take; Triton's compiler does not check it, the launch fails."""

MATRIX = {8: r"\bHMMA\.|\bIMMA\.|\bDMMA\.", 9: r"\bHGMMA\.|\bQGMMA\.", 10: r"\bUTC[A-Z]*MMA", 12: r"\b[HQ]MMA\."}
"""Tensor-core instruction by major version: HMMA, warp-group HGMMA, tcgen05 (UTC...MMA in machine code)."""

WIDE = r"\bLDG(STS)?\.E\.[\w.]*128|\bLDGSTS\.[\w.]*128|\bUTMALDG|\bUBLKCP"
"""128-bit loads from global memory, straight, through cp.async or by the bulk copy engine."""


@dataclass(frozen=True)
class MachineCode:
    """Facts of one binary."""

    registers: int
    spills: int
    """Bytes of local memory a thread (the stack: spilled registers, or arrays that no register could hold)."""
    shared: int
    tensor_cores: int
    """How many such instructions stand in the code."""
    wide_loads: int
    instructions: int


def examine(cubin: bytes, capability: int, shared: int) -> MachineCode:
    """The facts of a cubin; `shared` comes from the compiler, dynamic shared memory stands in no binary."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage = _run("cuobjdump", "-res-usage", str(file))
        code = _run("cuobjdump", "-sass", str(file))
    numbers = resources(usage)
    lines = [line for line in code.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+\S", line)]
    text = "\n".join(lines)
    return MachineCode(
        registers=numbers["REG"],
        spills=numbers["STACK"] + numbers["LOCAL"],
        shared=shared,
        tensor_cores=len(re.findall(MATRIX[capability // 10], text)),
        wide_loads=len(re.findall(WIDE, text)),
        instructions=len(lines),
    )


def resources(usage: str) -> Mapping[str, int]:
    """Numbers of cuobjdump's "REG:32 STACK:0 SHARED:0 LOCAL:0 ..." line."""
    found = {name: int(number) for name, number in re.findall(r"\b([A-Z]+)(?:\[0\])?:(\d+)", usage)}
    if not {"REG", "STACK", "LOCAL"} <= found.keys():
        raise RuntimeError(f"cuobjdump said nothing of registers: {usage[-200:]}")
    return found


@lru_cache
def tool(name: str) -> str:
    """Path of a binary tool in Triton's wheel."""
    import triton

    path = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin" / name
    return str(path) if path.exists() else name


def _run(name: str, *arguments: str) -> str:
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=True, timeout=120).stdout
