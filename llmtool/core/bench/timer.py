"""The one timer: implementations take turns, so that a clock that drifts or a neighbour that wakes hits all of them.

On a GPU with CUDA events. On a CPU with one thread by its processor time, which does not run while other work has the
core (on a shared machine the wall clock of a call of 1 ms was off by a factor of 30); with more by the wall clock. A
sample repeats a call until it is long enough for the clock; what is reported is the median, with the quartiles.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

import torch

from llmtool.core.bench.graph import capture
from llmtool.core.run.dataclass import dataclass

Call = Callable[[int], object]
"""A call is told its number, to take the next of several equal inputs."""

SAMPLE = 0.002
"""Seconds that a sample should last at least: 1,000 times the resolution of CUDA events, 4% of a scheduler's slice."""
LEAST_ROUNDS, MOST_ROUNDS = 5, 200
SHORT = 500e-6
"""Seconds: below, the launches of a call's kernels from Python may take longer than the kernels."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call."""

    median: float
    least: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    samples: int
    graph: bool = False
    """Replayed from a CUDA graph, without the time that Python takes to launch."""

    @staticmethod
    def of(samples: list[float], graph: bool = False) -> "Timing":
        """Of at least two samples."""
        low, _, high = quantiles(samples, n=4, method="inclusive")
        return Timing(median(samples), min(samples), low, high, len(samples), graph)


def measure(calls: Mapping[str, Call], device: torch.device, seconds: float = 1.0) -> dict[str, Timing]:
    """Time every call, in turns, for about `seconds` each and at least five rounds, after one warm-up and one trial.

    On a GPU a call shorter than SHORT is timed from a CUDA graph of a sample's calls, where one can be recorded.
    """
    clock = clock_of(device)
    ready: dict[str, tuple[Call, int, int]] = {}
    longest = 0.0
    for name, call in calls.items():
        clock(call, 1, 0)  # compiles, allocates, fills caches
        once = clock(call, 1, 1)
        repeats = max(1, round(SAMPLE / max(once, 1e-7)))
        recorded = record(call, repeats) if device.type == "cuda" and once < SHORT else None
        ready[name] = (recorded, 1, repeats) if recorded else (call, repeats, 1)
        longest = max(longest, once * repeats)
    rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, int(seconds / max(longest, 1e-6))))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, (call, repeats, inside) in ready.items():
            samples[name].append(clock(call, repeats, number * repeats) / inside)
    return {name: Timing.of(taken, ready[name][2] > 1) for name, taken in samples.items()}


def record(call: Call, repeats: int) -> Call | None:
    """`repeats` calls, numbered from 0, as one; None for what waits for the device, which no graph can hold."""

    def sample() -> None:
        for number in range(repeats):
            call(number)

    try:
        replay = capture(sample)
    except Exception:  # whatever it raises: it is timed call by call, and its row says so
        torch.cuda.synchronize()
        return None
    return lambda _: replay()


def clock_of(device: torch.device) -> Callable[[Call, int, int], float]:
    """clock(call, repeats, first) -> seconds of one of `repeats` calls, numbered from `first`."""
    return _cuda_clock if device.type == "cuda" else _cpu_clock


def clock_name(device: torch.device) -> str:
    """What is measured, for a report."""
    if device.type == "cuda":
        return "CUDA events"
    return "processor time of one thread" if torch.get_num_threads() == 1 else "wall clock"


def _cpu_clock(call: Call, repeats: int, first: int) -> float:
    # thread_time, not process_time: with a limit on CPU time the kernel counts a process in ticks of 4 ms
    now = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = now()
    for number in range(repeats):
        call(first + number)
    return (now() - started) / repeats


def _cuda_clock(call: Call, repeats: int, first: int) -> float:
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for number in range(repeats):
        call(first + number)
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3 / repeats
