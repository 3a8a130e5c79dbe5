"""Time an op: ceilings, correctness gate, then every implementation that passed, in turns."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from llmtool.core.bench.ceilings import Ceilings, name_of
from llmtool.core.bench.gate import Verdict, check, upstream_of, with_gradients
from llmtool.core.bench.memory import peak_bytes
from llmtool.core.bench.timer import Call, Timing, measure
from llmtool.core.kernels.spec import Case, Compute, Direction, Implementation, Spec

Row = dict[str, Any]
ROTATED = 16
"""Equal inputs in turn, at most, so that a small case does not find its own in the L2 cache."""


def time_op(
    spec: Spec,
    cases: Sequence[Case],
    dtype: torch.dtype,
    device: torch.device,
    *,
    directions: Sequence[Direction] | None = None,
    seconds: float = 1.0,
    compiled: bool = True,
    told: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    """Rows of one op, a row for each case, direction and implementation; `told` after each case and direction."""
    for case in cases:
        for direction in directions or spec.directions:
            if direction in spec.directions:
                yield from time_case(spec, case, dtype, device, direction, seconds, compiled)
                told()


def time_case(
    spec: Spec, case: Case, dtype: torch.dtype, device: torch.device, direction: Direction, seconds: float,
    compiled: bool,
) -> list[Row]:  # fmt: skip
    """One case, one direction: what cannot run says why, what is wrong is not timed."""
    flops, moved = spec.flops(case, direction), spec.bytes(case, dtype, direction)
    common: Row = {
        "op": spec.name, "case": dict(case.sizes), "dtype": name_of(dtype), "direction": direction,
        "flops": flops, "bytes": moved,
    }  # fmt: skip
    rows, ready = [], {}
    for each in spec.implementations:
        row = {**common, "implementation": each.name, "own": each.own}
        rows.append(row)
        reason = each.missing(device) or ("switched off" if each.compiled and not compiled else None)
        if reason:
            row["skipped"] = reason
            continue
        verdict, compute = admitted(spec, each, case, dtype, direction, device)
        row.update(passed=verdict.passed, error=_finite(verdict.error), tolerance=verdict.tolerance)
        if verdict.passed and compute is not None:
            ready[each.name] = compute
        else:
            row["failed"] = verdict.reason
    timings, peaks = _time(spec, ready, case, dtype, direction, device, seconds)
    for row in rows:
        if row["implementation"] in timings:
            row.update(figures(timings[row["implementation"]], flops, moved))
            row["peak_bytes"] = peaks[row["implementation"]]
    return rows


def admitted(
    spec: Spec, each: Implementation, case: Case, dtype: torch.dtype, direction: Direction, device: torch.device
) -> tuple[Verdict, Compute | None]:
    """The gate: the timed case itself, and the odd shapes where the implementation is ours (rivals may refuse them)."""
    try:
        compute = each.load()
    except Exception as error:  # a rival whose interface moved: said, not timed
        return Verdict(False, math.nan, spec.tolerance(dtype), f"{type(error).__name__}: {error}"), None
    for shape in [*(spec.cases("odd") if each.own else ()), case]:
        verdict = check(spec, compute, shape, dtype, direction, device)
        if not verdict.passed:
            return Verdict(False, verdict.error, verdict.tolerance, f"{shape}: {verdict.reason}"), None
    return verdict, compute


def figures(timing: Timing, flops: float, moved: float) -> Row:
    """Seconds and rates."""
    return {
        "seconds": timing.median,
        "low": timing.low,
        "high": timing.high,
        "samples": timing.samples,
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
    spec: Spec, ready: dict[str, Compute], case: Case, dtype: torch.dtype, direction: Direction, device: torch.device,
    seconds: float,
) -> tuple[dict[str, Timing], dict[str, int | None]]:  # fmt: skip
    if not ready:
        return {}, {}
    sets = [
        with_gradients(
            spec.make_inputs(case, dtype, device, torch.Generator().manual_seed(number)),
            spec.differentiable if direction == "training" else (),
        )
        for number in range(rotations(spec.bytes(case, dtype, "forward"), device))
    ]
    calls = {name: bind(spec, compute, sets, direction) for name, compute in ready.items()}
    peaks = {}
    for name, call in calls.items():
        call(0)
        peaks[name] = peak_bytes(lambda call=call: call(0), device)  # type: ignore[misc]
    return measure(calls, device, seconds), peaks


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
