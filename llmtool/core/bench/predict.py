"""What our kernels should take on an H100 and an H200: said before anything was measured there, to be tested by it.

    seconds = launches x LAUNCH + floor / share

The floor is that of the op's definition at the machine's ceilings (bytes over the copy rate or operations over the
matmul rate, whichever is longer). The share is what we believe of the kernel, for a stated reason; it is not fitted to
anything. docs/results/kernels/predictions.md is made from this table (commands/bench/device/predictions.py).
"""

from collections.abc import Iterator, Mapping

import torch

from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.kernels.spec import Case, Direction, Spec

MACHINES = {"H100": Ceilings(3.0e12, 798e12, "bfloat16"), "H200": Ceilings(4.3e12, 783e12, "bfloat16")}
"""Copies and bf16 matrix products seen on such machines, by others' runs: not theirs from a data sheet."""

LAUNCH = 2.5e-6
"""Seconds between kernels of a CUDA graph, the filling and draining of the GPU included."""

Believed = Mapping[str, tuple[Mapping[Direction, float], Mapping[Direction, int], str]]

BELIEVED: Believed = {
    "rms_norm": ({"forward": 0.88, "training": 0.80}, {"forward": 1, "training": 3},
                 "one pass; backward keeps two rows in registers and ends in a sum over programs; a width that is no "
                 "power of two leaves lanes idle"),
    "swiglu": ({"forward": 0.92, "training": 0.88}, {"forward": 1, "training": 2}, "one pass, nothing but streams"),
    "rope": ({"forward": 0.80, "training": 0.80}, {"forward": 1, "training": 2},
             "one token a program: short rows of 64 to 128 elements, two streams and a table"),
    "masked_swiglu": ({"forward": 0.95, "training": 0.80}, {"forward": 1, "training": 2},
                      "forward does not read closed blocks, which the floor counts"),
    "linear_cross_entropy": ({"forward": 0.80, "training": 0.72}, {"forward": 24, "training": 48},
                             "cuBLAS at 0.9, and each chunk of logits crosses memory about five times"),
    "grouped_gemm": ({"forward": 0.62, "training": 0.58}, {"forward": 1, "training": 3},
                     "116 instructions of the K loop beside 4 HGMMA, no TMA, no overlap of epilogues"),
    "grouped_swiglu": ({"forward": 0.60, "training": 0.52}, {"forward": 1, "training": 7},
                       "114 instructions beside 8 HGMMA; the backward pass is four grouped products"),
    "dsmoe_ffn": ({"forward": 0.60, "training": 0.60}, {"forward": 5, "training": 5},
                  "decode: half of the machine's requests in flight; prefill: gathered rows, 92 and 83 instructions "
                  "beside 8 and 4 HGMMA, and o written and read once more"),
    "shared_softmax_attention": ({"forward": 0.75, "training": 0.75}, {"forward": 2, "training": 2},
                                 "a stretch of V a program, then a sum over stretches"),
}  # fmt: skip
"""Op -> share of the ceiling, kernels a call (torch's own included), and why."""


def predicted(spec: Spec, case: Case, direction: Direction, machine: str) -> float | None:
    """Seconds of one call in bfloat16 on a machine of MACHINES; None for an op of which nothing was believed."""
    if spec.name not in BELIEVED:
        return None
    shares, launches, _ = BELIEVED[spec.name]
    floor = MACHINES[machine].floor(spec.flops(case, direction), spec.bytes(case, torch.bfloat16, direction))
    return launches[direction] * LAUNCH + floor / shares[direction]


def machine_of(device: str) -> str | None:
    """The machine whose predictions a device ("NVIDIA H100 80GB HBM3") is held to."""
    return next((name for name in MACHINES if name in device), None)


def table(cases: Mapping[str, list[tuple[Spec, Case]]]) -> Iterator[list[str]]:
    """Rows of predictions.md: op, case, direction, what bounds it, floor and prediction on each machine."""
    for pairs in cases.values():
        for spec, case in pairs:
            for direction in spec.directions:
                cells = [spec.name, str(case), direction]
                flops, moved = spec.flops(case, direction), spec.bytes(case, torch.bfloat16, direction)
                cells.append(MACHINES["H100"].bound(flops, moved))
                for name, ceilings in MACHINES.items():
                    seconds = predicted(spec, case, direction, name)
                    cells += [
                        f"{ceilings.floor(flops, moved) * 1e6:,.1f}",
                        "-" if seconds is None else f"{seconds * 1e6:,.1f}",
                    ]
                yield cells
