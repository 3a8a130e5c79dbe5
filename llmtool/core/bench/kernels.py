"""Time an op: correctness gate, then every implementation that passed, in turns.

torch.compile is a rival only where it compiled: `fullgraph` raises where Dynamo would give up and run eagerly.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from llmtool.core.bench.ceilings import Ceilings, name_of
from llmtool.core.bench.gate import Truth, Verdict, draw_inputs, upstream_of, with_gradients
from llmtool.core.bench.memory import peak_bytes
from llmtool.core.bench.timer import Call, Timing, measure
from llmtool.core.kernels.spec import Case, Compute, Direction, Implementation, Spec

Row = dict[str, Any]
ROTATED = 16
"""Equal inputs in turn, at most, so that a small case does not find its own in the L2 cache."""


Odd = dict[tuple[str, Direction], Verdict]
"""Verdicts of our implementations on the odd shapes, found once for all cases."""


def time_op(
    spec: Spec,
    cases: Sequence[Case],
    dtype: torch.dtype,
    device: torch.device,
    *,
    directions: Sequence[Direction] | None = None,
    seconds: float = 1.0,
    compiled: bool = True,
    until: float = math.inf,
    told: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    """Rows of one op as they come, for each case, direction and implementation; `told` after each case and direction.

    until: a time.monotonic() after which no case is begun; rows then say that they were left out.
    """
    odd: Odd = {}
    for case in cases:
        truth = None
        wanted = [direction for direction in spec.directions if direction in (directions or spec.directions)]
        for direction in wanted:
            if time.monotonic() >= until:
                yield from left_out(spec, case, dtype, direction)
            else:
                truth = truth or Truth(spec, case, dtype, device, whole="training" in wanted)
                yield from time_case(truth, direction, seconds, compiled, odd)
            told()
        del truth
        if device.type == "cuda":
            torch.cuda.empty_cache()


def common(spec: Spec, case: Case, dtype: torch.dtype, direction: Direction) -> Row:
    """What the rows of a case share."""
    return {
        "op": spec.name, "case": dict(case.sizes), "dtype": name_of(dtype), "direction": direction,
        "flops": spec.flops(case, direction), "bytes": spec.bytes(case, dtype, direction),
    }  # fmt: skip


def left_out(spec: Spec, case: Case, dtype: torch.dtype, direction: Direction) -> Iterator[Row]:
    """Rows of a case for which no time was left."""
    for each in spec.implementations:
        yield {**common(spec, case, dtype, direction), "implementation": each.name, "own": each.own,
               "skipped": "no time was left"}  # fmt: skip


def time_case(truth: Truth, direction: Direction, seconds: float, compiled: bool, odd: Odd) -> list[Row]:
    """One case, one direction: what cannot run says why, what is wrong is not timed."""
    spec, device = truth.spec, truth.device
    shared = common(spec, truth.case, truth.dtype, direction)
    rows, ready = [], {}
    if compiled and any(each.compiled for each in spec.implementations):
        torch._dynamo.reset()  # a function has room for 8 compilations, for all shapes that it ever saw
    for each in spec.implementations:
        row = {**shared, "implementation": each.name, "own": each.own}
        rows.append(row)
        reason = each.missing(device) or ("switched off" if each.compiled and not compiled else None)
        if reason:
            row["skipped"] = reason
            continue
        verdict, compute = admitted(truth, each, direction, odd)
        row.update(passed=verdict.passed, error=_finite(verdict.error), tolerance=verdict.tolerance)
        if verdict.passed and compute is not None:
            ready[each] = compute
        else:
            row["failed"] = verdict.reason
    timings, peaks = _time(truth, ready, direction, seconds)
    for row in rows:
        if row["implementation"] in timings:
            row.update(figures(timings[row["implementation"]], shared["flops"], shared["bytes"]))
            row["peak_bytes"] = peaks[row["implementation"]]
    return rows


def admitted(truth: Truth, each: Implementation, direction: Direction, odd: Odd) -> tuple[Verdict, Compute | None]:
    """The gate: the timed case itself, and the odd shapes where the implementation is ours (rivals may refuse them)."""
    spec = truth.spec
    try:
        compute = each.load()
    except Exception as error:  # a rival whose interface moved: said, not timed
        return Verdict(False, math.nan, spec.tolerance(truth.dtype), f"{type(error).__name__}: {error}"), None
    if each.own and (each.name, direction) not in odd:
        odd[each.name, direction] = first_wrong(spec, compute, truth.dtype, direction, truth.device)
    if each.own and not odd[each.name, direction].passed:
        return odd[each.name, direction], None
    verdict = truth.judge(compute, direction)
    if not verdict.passed:
        return Verdict(False, verdict.error, verdict.tolerance, f"{truth.case}: {verdict.reason}"), None
    return verdict, compute


def first_wrong(
    spec: Spec, compute: Compute, dtype: torch.dtype, direction: Direction, device: torch.device
) -> Verdict:  # fmt: skip
    """The verdict on the odd shapes: the first that is wrong, or the last."""
    verdict = Verdict(True, 0.0, spec.tolerance(dtype))
    for shape in spec.cases("odd"):
        verdict = Truth(spec, shape, dtype, device).judge(compute, direction)
        if not verdict.passed:
            return Verdict(False, verdict.error, verdict.tolerance, f"{shape}: {verdict.reason}")
    return verdict


def figures(timing: Timing, flops: float, moved: float) -> Row:
    """Seconds and rates."""
    return {
        "seconds": timing.median,
        "low": timing.low,
        "high": timing.high,
        "samples": timing.samples,
        "graph": timing.graph,
        "flops_per_s": flops / timing.median,
        "bytes_per_s": moved / timing.median,
    }


def add_shares(rows: Sequence[Row], ceilings: Ceilings) -> None:
    """What bounds each row, the seconds that it needs at least, and the share of that bound which was reached."""
    for row in rows:
        row["bound"] = ceilings.bound(row["flops"], row["bytes"])
        row["floor"] = ceilings.floor(row["flops"], row["bytes"])
        if "seconds" in row:
            row["share"] = row["floor"] / row["seconds"]


def _time(
    truth: Truth, ready: dict[Implementation, Compute], direction: Direction, seconds: float
) -> tuple[dict[str, Timing], dict[str, int | None]]:  # fmt: skip
    if not ready:
        return {}, {}
    spec, device = truth.spec, truth.device
    sets = input_sets(truth, direction)
    calls, peaks = {}, {}
    for each, compute in ready.items():
        # What writes into its inputs gets copies of its own: the others would be timed on numbers it left.
        own = [with_gradients(tuple(given), spec.differentiable) for given in sets] if each.spoils else sets
        calls[each.name] = call = bind(spec, compute, own, direction)
        call(0)
        peaks[each.name] = peak_bytes(lambda call=call: call(0), device)  # type: ignore[misc]
    return measure(calls, device, seconds), peaks


def input_sets(truth: Truth, direction: Direction) -> list[list[Any]]:
    """Equal inputs to take in turn: the case's own, and others so that none finds its own in the L2 cache."""
    spec, places = truth.spec, truth.spec.differentiable if direction == "training" else ()
    count = rotations(spec.bytes(truth.case, truth.dtype, "forward"), truth.device)
    others = (draw_inputs(spec, truth.case, truth.dtype, truth.device, number) for number in range(1, count))
    return [with_gradients(given, places) for given in (truth.inputs, *others)]


def rotations(moved: float, device: torch.device) -> int:
    """How many equal inputs make four times the L2 cache."""
    if device.type != "cuda":
        return 1
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 50 << 20)
    return max(1, min(ROTATED, math.ceil(4 * cache / moved)))


def bind(spec: Spec, compute: Compute, sets: Sequence[list[Any]], direction: Direction) -> Call:
    """A call of the timer: outputs alone, or outputs and gradients."""
    if direction == "forward":

        def forward(number: int) -> object:
            with torch.no_grad():
                return compute(*sets[number % len(sets)])

        return forward
    upstream: list[torch.Tensor] = []

    def training(number: int) -> object:
        given = sets[number % len(sets)]
        made = compute(*given)
        outputs = list(made) if isinstance(made, tuple) else [made]
        if not upstream:
            upstream.extend(upstream_of(spec, outputs, 0))
        return torch.autograd.grad(outputs, [given[place] for place in spec.differentiable], upstream)

    return training


def _finite(number: float) -> float | None:
    """JSON has no NaN."""
    return number if math.isfinite(number) else None
