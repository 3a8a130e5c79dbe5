"""Measure launch configurations of our kernels on the GPU at hand, and write rows for core/kernels/tuning.json.

One kernel at a time, the others as the table has them. A candidate that does not compile, does not fit or does not
pass the gate is left out; of the others the fastest median of a whole call wins, gradients included.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from llmtool.core.bench.gate import check, with_gradients
from llmtool.core.bench.kernels import bind
from llmtool.core.bench.timer import measure
from llmtool.core.kernels.spec import OURS, Case, Spec
from llmtool.core.kernels.tuning import tried

Rows = dict[str, list[dict[str, int]]]


def tune_op(
    spec: Spec,
    cases: Sequence[Case],
    dtype: torch.dtype,
    device: torch.device,
    *,
    seconds: float = 0.1,
    told: Callable[[], None] = lambda: None,
) -> Rows:
    """Kernel -> rows of tuning.json, one a size, ascending; a kernel without a sound candidate has none."""
    rows: Rows = {}
    for kernel, candidates in spec.candidates().items():
        best: dict[int, Mapping[str, int]] = {}
        for case in sorted(cases, key=spec.tuned_size):
            times = {}
            for number, candidate in enumerate(candidates):
                with tried(spec.name, kernel, candidate):
                    found = seconds_of(spec, case, dtype, device, seconds)
                if found is not None:
                    times[number] = found
            if times:
                best[spec.tuned_size(case)] = candidates[min(times, key=times.__getitem__)]
            told()
        if best:
            rows[kernel] = [{"up_to": size, **chosen} for size, chosen in best.items()]
    return rows


def seconds_of(spec: Spec, case: Case, dtype: torch.dtype, device: torch.device, seconds: float) -> float | None:
    """Median of a call of ours, or None where it is not sound."""
    direction = spec.directions[-1]
    ours = spec.implementation(OURS).load()
    if not check(spec, ours, case, dtype, direction, device).passed:
        return None
    inputs = spec.make_inputs(case, dtype, device, torch.Generator().manual_seed(0))
    given = [with_gradients(inputs, spec.differentiable if direction == "training" else ())]
    return measure({OURS: bind(spec, ours, given, direction)}, device, seconds)[OURS].median


def rows_of(device: str, found: Mapping[str, Rows]) -> dict[str, Any]:
    """What goes into tuning.json."""
    return {device: {op: rows for op, rows in found.items() if rows}}
