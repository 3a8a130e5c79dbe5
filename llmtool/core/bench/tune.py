"""Measure launch configurations of our kernels on the GPU at hand, and write rows for core/kernels/tuning.json.

One kernel at a time, the others as the table has them, in a call in which it really runs (spec.Tuning): its own
direction, its own form, the element type's own rows. What cannot fit into shared memory is not tried. The fastest
candidate that passes the gate wins; then it and the rivals are timed in turns, and the row holds seconds of both:
`--kernels auto` takes what won (tuning.wins).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

import torch

from llmtool.core.bench.gate import Truth
from llmtool.core.bench.kernels import bind, input_sets
from llmtool.core.bench.timer import measure
from llmtool.core.kernels.spec import Case, Spec, Tuning
from llmtool.core.kernels.tuning import tried, typed

Row = dict[str, Any]
SHARED = 232_448
"""Bytes of shared memory of a block of sm_90 and sm_100; a device with less refuses the launch, which is caught."""


def tune_op(
    spec: Spec,
    cases: Sequence[Case],
    dtype: torch.dtype,
    device: torch.device,
    *,
    seconds: float = 0.03,
    most: int | None = None,
    until: float = inf,
) -> Iterator[Row]:
    """A row for each kernel and case in which it runs, as they come: {"op", "kernel", "case", "row", counts}.

    A kernel none of whose candidates is sound has no "row". most: candidates that are tried (a rehearsal). until: a
    time.monotonic() after which none is begun.
    """
    for case in sorted(cases, key=spec.tuned_size):
        truth = Truth(spec, case, dtype, device)
        for kernel, tuning in spec.tunings().items():
            if tuning.runs(case) and time.monotonic() < until:
                yield {
                    "op": spec.name, "kernel": typed(kernel, dtype), "case": dict(case.sizes),
                    **tune_kernel(truth, typed(kernel, dtype), tuning, seconds, most, until),
                }  # fmt: skip


def tune_kernel(
    truth: Truth, kernel: str, tuning: Tuning, seconds: float, most: int | None = None, until: float = inf
) -> Row:
    """The fastest sound candidate and the rivals beside it."""
    spec = truth.spec
    ours = spec.implementation(tuning.implementation).load()
    sets = input_sets(truth, tuning.direction)
    call = bind(spec, ours, sets, tuning.direction)
    fitting = [each for each in tuning.candidates if tuning.shared(each, truth.dtype.itemsize) <= SHARED][:most]
    times: dict[int, float] = {}
    refused: list[str] = []
    for number, candidate in enumerate(fitting):
        if time.monotonic() >= until:
            break
        with tried(spec.name, kernel, candidate) as used:
            try:
                call(0)
                if not used():
                    raise LookupError(f"{spec.name} {kernel} does not run in {tuning.direction} on {truth.case}")
                times[number] = measure({kernel: call}, truth.device, seconds)[kernel].median
            except LookupError:
                raise
            except Exception as error:  # does not compile, or not fit: no candidate
                refused.append(f"{candidate}: {type(error).__name__}")
    counts: Row = {
        "candidates": len(tuning.candidates), "fitting": len(fitting), "timed": len(times), "refused": refused[:3],
        "slowest": max(times.values(), default=None),
    }  # fmt: skip
    for number in sorted(times, key=times.__getitem__):
        with tried(spec.name, kernel, fitting[number]):
            if truth.judge(ours, tuning.direction).passed:
                found = beside_rivals(truth, tuning, call, seconds)
                return {**counts, "row": {"up_to": spec.tuned_size(truth.case), **fitting[number], **found}}
    return counts


def beside_rivals(truth: Truth, tuning: Tuning, ours: Any, seconds: float) -> Row:
    """Seconds of ours and of the fastest rival that is right, in turns; without a rival the reference is one."""
    spec, direction = truth.spec, tuning.direction
    calls = {"": ours}
    if truth.device.type == "cuda":
        torch._dynamo.reset()
    for each in spec.implementations:
        if each.own or each.missing(truth.device) or (each.compiled and truth.device.type != "cuda"):
            continue
        try:
            compute = each.load()
        except Exception:  # a rival whose interface moved
            continue
        if truth.judge(compute, direction).passed:
            calls[each.name] = bind(spec, compute, input_sets(truth, direction), direction)
    timings = measure(calls, truth.device, max(seconds, 0.05) if truth.device.type == "cuda" else seconds)
    mine = timings.pop("").median
    if not timings:
        return {"seconds": mine}
    rival = min(timings, key=lambda name: timings[name].median)
    return {"seconds": mine, "rival": rival, "rival_seconds": timings[rival].median}


def rows_of(device: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What goes into tuning.json: {device: {op: {kernel: rows, ascending by size}}}."""
    ops: dict[str, dict[str, dict[int, Any]]] = {}
    for each in found:
        if row := each.get("row"):
            ops.setdefault(each["op"], {}).setdefault(each["kernel"], {})[row["up_to"]] = row
    return {
        device: {
            op: {kernel: [rows[size] for size in sorted(rows)] for kernel, rows in kernels.items()}
            for op, kernels in ops.items()
        }
    }
