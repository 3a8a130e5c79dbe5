"""What the compiler made of a kernel: registers, spills, shared memory, instructions, read from the binary.

Triton's wheel brings the tools, so that no CUDA installation is needed. Two numbers follow from the others and from
NVIDIA's tables of the architectures: how many warps fit on a multiprocessor at once (`resident`), and what the loop
around the matrix products costs beside them (`Loop`).
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from llmtool.core.run.dataclass import dataclass

SHARED_MEMORY = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 103: 232_448, 120: 101_376}
"""Bytes that one block may take; Triton's compiler does not check it, the launch fails."""

MATRIX = {8: r"\bHMMA\.|\bIMMA\.|\bDMMA\.", 9: r"\bHGMMA\.|\bQGMMA\.", 10: r"\bUTC[A-Z]*MMA", 12: r"\b[HQ]MMA\."}
"""Tensor-core instruction by major version: HMMA, warp-group HGMMA, tcgen05 (UTC...MMA in machine code)."""

WIDE = r"\bLDG(STS)?\.E\.[\w.]*128|\bLDGSTS\.[\w.]*128|\bUTMALDG|\bUBLKCP"
"""128-bit loads from global memory, straight, through cp.async or by the bulk copy engine."""


BLOCKS = {80: 32, 86: 16, 89: 24, 90: 32, 100: 32, 103: 32, 120: 24}
"""Blocks that one multiprocessor holds."""
WARPS = {80: 64, 86: 48, 89: 48, 90: 64, 100: 64, 103: 64, 120: 48}
"""Warps that it holds."""
REGISTERS = 65_536
"""Registers of 32 bits that it has; a warp gets them 256 at a time."""
RESERVED = 1024
"""Bytes of shared memory that the system keeps for itself of each block; one block's most and once this are all."""

RATE = {8: 256, 9: 512}
"""Multiply-adds of bfloat16 a cycle of one tensor core, dense; a multiprocessor has 4, each with its own scheduler."""
SHAPE = {8: r"\bHMMA\.(16)(8)(16|8)\b", 9: r"\bHGMMA\.(64)x(\d+)x(\d+)\b"}
"""Rows, columns and depth of a product as the instruction's name says them; 4 warps share an HGMMA."""


@dataclass(frozen=True)
class Loop:
    """The innermost loop that holds the matrix products, an iteration."""

    instructions: int
    products: int
    cycles: float
    """What its products take a tensor core at its full rate."""

    @property
    def issue(self) -> float:
        """Slots of the scheduler over cycles of the products: above 1 the tensor cores wait for instructions."""
        return self.instructions / self.cycles


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
    occupancy: float = 1.0
    """Warps that a multiprocessor can hold of those that it has room for."""
    issue: float | None = None
    """`Loop.issue`; None where no matrix product stands in a loop, or its cycles are not known."""


def examine(cubin: bytes, capability: int, shared: int, warps: int) -> MachineCode:
    """The facts of a cubin; `shared` comes from the compiler, dynamic shared memory stands in no binary."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage = _run("cuobjdump", "-res-usage", str(file))
        code = _run("cuobjdump", "-sass", str(file))
    numbers = resources(usage)
    lines = [line for line in code.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+\S", line)]
    text = "\n".join(lines)
    loop = matrix_loop(lines, capability)
    return MachineCode(
        registers=numbers["REG"],
        spills=numbers["STACK"] + numbers["LOCAL"],
        shared=shared,
        tensor_cores=len(re.findall(MATRIX[capability // 10], text)),
        wide_loads=len(re.findall(WIDE, text)),
        instructions=len(lines),
        occupancy=resident(numbers["REG"], shared, warps, capability) / WARPS[capability],
        issue=round(loop.issue, 3) if loop else None,
    )


def resident(registers: int, shared: int, warps: int, capability: int) -> int:
    """Warps that one multiprocessor holds of a kernel with so many registers a thread, bytes and warps a block."""
    per_warp = -(-registers * 32 // 256) * 256
    memory = SHARED_MEMORY[capability] + RESERVED
    blocks = min(
        BLOCKS[capability],
        WARPS[capability] // warps,
        REGISTERS // max(1, per_warp) // warps,
        memory // (shared + RESERVED),
    )
    return blocks * warps


def matrix_loop(lines: Sequence[str], capability: int) -> Loop | None:
    """Of the loops (a branch backwards) that hold matrix products the shortest; None where there is none."""
    major = capability // 10
    if major not in SHAPE:
        return None
    code = [(address(line), line) for line in lines]
    found = []
    for at, line in code:
        branch = re.search(r"\bBRA(?:\.\w+)* (?:\w+, )?`?\(?0x([0-9a-f]+)", line)
        if branch is None or (start := int(branch[1], 16)) >= at:
            continue
        body = [text for place, text in code if start <= place <= at]
        shapes = [shape.groups() for text in body if (shape := re.search(SHAPE[major], text))]
        if shapes:
            work = sum(int(rows) * int(columns) * int(depth) for rows, columns, depth in shapes)
            found.append(Loop(len(body), len(shapes), work / RATE[major] / (4 if major == 9 else 1)))
    return min(found, key=lambda loop: loop.instructions, default=None)


def address(line: str) -> int:
    """The address at the beginning of a line."""
    found = re.match(r"\s+/\*([0-9a-f]{4,})\*/", line)
    assert found is not None
    return int(found[1], 16)


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
