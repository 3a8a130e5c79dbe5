"""Parts that look at the machine and at single ops: env, ceilings, tests, big, ops, tune."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from llmtool.commands.bench.device.child import Log, Row
from llmtool.commands.bench.device.plan import CASES, REHEARSED
from llmtool.core.bench.ceilings import measure_ceilings
from llmtool.core.bench.gate import Truth, Verdict, compare, draw_inputs
from llmtool.core.bench.kernels import Odd, time_case
from llmtool.core.bench.machine import describe
from llmtool.core.bench.tune import tune_kernel
from llmtool.core.kernels.registry import load_spec
from llmtool.core.kernels.spec import OURS, REFERENCE, Case, Spec, case
from llmtool.core.kernels.tuning import typed

MODULES = ("triton", "liger_kernel", "transformers", "numpy", "scipy", "safetensors", "pytest", "matplotlib")
TYPES = {"cuda": (torch.bfloat16, torch.float16, torch.float32), "cpu": (torch.float32,)}
SECONDS = {"cuda": 0.2, "cpu": 0.002}
"""For each implementation of a case."""
LAST = 64
"""Rows that are compared at the end of a tensor of more than 2^31 elements."""


def kind_of(device: torch.device) -> torch.dtype:
    """What is timed: bfloat16; on a CPU, whose run is a rehearsal, float32."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def cases_of(spec: Spec, device: torch.device) -> list[Case]:
    """What is timed and tuned."""
    table = CASES if device.type == "cuda" else REHEARSED
    if spec.name in table:
        return list(table[spec.name])
    return list(spec.cases("large")[:2] if device.type == "cuda" else spec.cases("odd")[:1])


def env(log: Log, _: str, device: torch.device) -> None:
    """What the machine is, and what is installed."""
    log.unit("env", lambda: [{**describe(device), "has": {name: find_spec(name) is not None for name in MODULES}}], 0)


def ceilings(log: Log, _: str, device: torch.device) -> None:
    """Copy and matrix product."""

    def work(kind: torch.dtype) -> list[Row]:
        return [measure_ceilings(device, kind, 1.0 if device.type == "cuda" else 0.01).to_json()]

    for kind in TYPES[device.type]:
        if kind != torch.float16:
            log.unit(f"ceilings {kind}", partial(work, kind))


def tests(log: Log, op: str, device: torch.device) -> None:
    """Every own kernel on the odd shapes, each type, forward and with gradients, against float64."""
    spec = load_spec(op)
    shapes = spec.cases("odd") if device.type == "cuda" else cases_of(spec, device)
    for each in spec.implementations:
        if not each.own or (each.missing(device) and each.name != OURS):
            continue
        for dtype in (kind for kind in TYPES[device.type] if kind in spec.dtypes):
            for direction in spec.directions:

                def work(each: Any = each, dtype: Any = dtype, direction: Any = direction) -> Iterator[Row]:
                    for shape in shapes:
                        verdict = Truth(spec, shape, dtype, device).judge(each.load(), direction)
                        yield {"op": op, "case": dict(shape.sizes), "dtype": str(dtype), "direction": direction,
                               "implementation": each.name, **facts_of(verdict)}  # fmt: skip

                log.unit(f"{each.name} {dtype} {direction}", work)


def facts_of(verdict: Verdict) -> Row:
    """As a row."""
    return {"passed": verdict.passed, "error": verdict.error, "tolerance": verdict.tolerance, "reason": verdict.reason}


def ops(log: Log, op: str, device: torch.device) -> None:
    """Times beside rivals, behind the gate."""
    spec, dtype, odd = load_spec(op), kind_of(device), Odd()
    for shape in cases_of(spec, device):
        truth: list[Truth] = []
        for direction in spec.directions:

            def work(case: Any = shape, direction: Any = direction, truth: Any = truth) -> Iterator[Row]:
                if not truth:
                    truth.append(Truth(spec, case, dtype, device, whole=len(spec.directions) > 1))
                yield from time_case(truth[0], direction, SECONDS[device.type], device.type == "cuda", odd)

            log.unit(f"{shape} {direction}", work, 6 if device.type == "cuda" else 1)


def tune(log: Log, op: str, device: torch.device) -> None:
    """Launch configurations, the fastest sound one beside the fastest rival."""
    spec, dtype = load_spec(op), kind_of(device)
    rehearsed = device.type == "cpu"
    for shape in cases_of(spec, device):
        for kernel, tuning in spec.tunings().items():
            if not tuning.runs(shape):
                continue

            def work(case: Any = shape, kernel: Any = kernel, tuning: Any = tuning) -> Iterator[Row]:
                truth, name = Truth(spec, case, dtype, device), typed(kernel, dtype)
                seconds, most = (0.002, 1) if rehearsed else (0.03, None)
                found = tune_kernel(truth, name, tuning, seconds, most, to_monotonic(log))
                yield {"op": op, "kernel": name, "case": dict(case.sizes), **found}

            log.unit(f"{kernel} {shape}", work, 1 if rehearsed else 5)


def to_monotonic(log: Log) -> float:
    """The log's limit, less what comparing and timing the winner takes, by the clock that tuning looks at."""
    import time

    return time.monotonic() + max(0.0, log.left() - 2)


Cut = Callable[[tuple[Any, ...]], tuple[Any, ...]]
"""Inputs -> those of the last rows alone."""


def ends_of(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """x [rows, width], weight, ends: the last rows and their ends."""
    x, weight, ends = inputs
    return x[-LAST:], weight, (ends - (len(x) - LAST)).clamp(min=0)


BIG: dict[str, tuple[Case, Case, Cut, int]] = {
    "rms_norm": (case(rows=530_000, width=4096), case(rows=70, width=32), lambda i: (i[0][-LAST:], *i[1:]), 0),
    "swiglu": (case(rows=530_000, width=4096), case(rows=70, width=32), lambda i: (i[0][-LAST:], i[1][-LAST:]), 0),
    "masked_swiglu": (case(rows=530_000, inner=4096, experts=8), case(rows=70, inner=32, experts=4),
                      lambda i: tuple(x[-LAST:] for x in i), 0),
    "rope": (case(rows=2, heads=64, shared=8, tokens=140_000, size=128, tables=1, own=0),
             case(rows=2, heads=2, shared=1, tokens=100, size=16, tables=1, own=0),
             lambda i: tuple(x[:, :, -LAST:] for x in i), 2),
    "shared_softmax_attention": (case(layers=1, batch=64, heads=8, group=4, places=34_000, size=128, mapped=0),
                                 case(layers=1, batch=3, heads=2, group=4, places=42, size=16, mapped=0),
                                 lambda i: (i[0][-1:], i[1][:, -1:]), 1),
    "grouped_gemm": (case(rows=160_000, groups=4, out=14_336, width=128), case(rows=100, groups=3, out=16, width=16),
                     ends_of, 0),
}  # fmt: skip
"""Op -> sizes with a tensor of more than 2^31 elements, those of a rehearsal, the cut, and the outputs' dimension of
what was cut. An int32 offset wraps there; nothing else sees it. dsmoe_ffn and linear_cross_entropy cut their work
into pieces that stay below."""


def big(log: Log, _: str, device: torch.device) -> None:
    """The last rows of very large tensors, forward and the gradient of the first input."""
    for op, (sizes, small, cut, dimension) in BIG.items():
        shape = sizes if device.type == "cuda" else small

        def work(op: str = op, shape: Case = shape, cut: Cut = cut, dimension: int = dimension) -> Iterator[Row]:
            spec, dtype = load_spec(op), kind_of(device)
            inputs = draw_inputs(spec, shape, dtype, device, 0)
            ours, reference = (spec.implementation(name).load() for name in (OURS, REFERENCE))
            precise = tuple(x.double() if is_float(x) else x for x in cut(inputs))
            count = max(x.numel() for x in inputs if isinstance(x, torch.Tensor))
            found, wanted = first(ours(*inputs)), first(reference(*precise))
            tail = found.narrow(dimension, found.shape[dimension] - wanted.shape[dimension], wanted.shape[dimension])
            verdict = compare([("output", tail)], [("output", wanted)], spec.tolerance(dtype))
            yield {"op": op, "case": dict(shape.sizes), "dtype": str(dtype), "elements": max(count, found.numel()),
                   "direction": "forward",
                   **facts_of(verdict)}  # fmt: skip
            if 0 not in spec.differentiable:
                return
            del found
            x = inputs[0].requires_grad_()
            y = first(ours(x, *inputs[1:]))
            upstream = torch.randn(y.shape, dtype=y.dtype, device=device)
            (gradient,) = torch.autograd.grad(y, x, upstream)
            start = precise[0].requires_grad_()
            other = first(reference(start, *precise[1:]))
            part = upstream.narrow(dimension, y.shape[dimension] - other.shape[dimension], other.shape[dimension])
            (truth,) = torch.autograd.grad(other, start, part.double())
            tail = gradient.narrow(dimension, x.shape[dimension] - truth.shape[dimension], truth.shape[dimension])
            verdict = compare([("gradient", tail)], [("gradient", truth)], spec.tolerance(dtype))
            yield {
                "op": op,
                "case": dict(shape.sizes),
                "dtype": str(dtype),
                "elements": count,
                "direction": "training",
                **facts_of(verdict),
            }

        log.unit(op, work, 5 if device.type == "cuda" else 1)


def is_float(x: Any) -> bool:
    """Whether it is a tensor of floating type."""
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def first(made: Any) -> torch.Tensor:
    """The first output."""
    output: torch.Tensor = made[0] if isinstance(made, tuple) else made
    return output


PARTS: dict[str, Callable[[Log, str, torch.device], None]] = {
    "env": env, "ceilings": ceilings, "tests": tests, "big": big, "ops": ops, "tune": tune,
}  # fmt: skip
