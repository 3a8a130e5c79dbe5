"""DSMoE's layer beside the dense layer it was cut from, the masked form, and torch's grouped product.

    OMP_NUM_THREADS=1 python -m benchmarks.dsmoe [--shapes small,1B,7B] [--tokens 1,8,64,512] [--active 3] [--runs 7]
    python -m benchmarks.dsmoe --device cuda --dtype bfloat16 --shapes 7B,1B --tokens 1,8,512,4096,8192,16384

The dense layer computes something else and is the limit to beat, so it cannot be a rival in `llmtool bench kernels`.
CPU: CPU seconds of this process, the least of interleaved runs, as other work on the machine only ever adds. GPU: the
median by CUDA events; up to 8 tokens everything is replayed from a CUDA graph. Nothing is printed for a form whose
result is wrong.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from llmtool.core.bench.timer import measure
from llmtool.core.kernels.dsmoe_ffn.reference import masked
from llmtool.core.kernels.dsmoe_ffn.spec import ONE_B, SEVEN_B, SPEC
from llmtool.core.kernels.spec import case
from llmtool.core.run.manifest import git_revision

SHAPES = {"1B": ONE_B, "7B": SEVEN_B, "small": (512, 2048)}
GRAPH = 8
"""Tokens up to which a GPU is timed on CUDA graphs: launches would be most of the time."""


def dense(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, *_: Any) -> torch.Tensor:
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def ignore_number(call: Callable[[], object], number: int) -> None:
    call()


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """The call as a CUDA graph."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def least(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(runs):
        for name, call in calls.items():
            started = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - started)
    return best


def seconds(
    calls: Mapping[str, Callable[[], object]], device: torch.device, tokens: int, runs: int
) -> dict[str, float]:
    if device.type != "cuda":
        return least(calls, runs)
    # grouped_mm waits for the device to know its sizes: no graph can hold it.
    ready = {name: captured(call) if tokens <= GRAPH and name != "grouped_mm" else call for name, call in calls.items()}
    timed = measure({name: partial(ignore_number, call) for name, call in ready.items()}, device)
    return {name: timing.median for name, timing in timed.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", default="small,1B")
    parser.add_argument("--tokens", default="1,2,4,8,16,64,512")
    parser.add_argument("--active", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    dtype, device = getattr(torch, arguments.dtype), torch.device(arguments.device)
    names = ["ours", "grouped_mm"] if device.type == "cuda" else ["cpu"]
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{where}, torch {torch.__version__}, {torch.get_num_threads()} thread, {arguments.dtype}, "
          f"{arguments.active} of 8 blocks open, commit {git_revision()}")  # fmt: skip
    print("| shape | tokens | dense ms | masked | " + " | ".join(names) + " | dense / " + names[0] + " |")
    print("|---" * (5 + len(names)) + "|")
    for shape in arguments.shapes.split(","):
        width, inner = SHAPES[shape]
        for tokens in map(int, arguments.tokens.split(",")):
            made = case(tokens=tokens, width=width, inner=inner, experts=8, active=arguments.active)
            inputs = SPEC.make_inputs(made, dtype, device, torch.Generator().manual_seed(0))
            with torch.inference_mode():
                precise: list[Any] = [x.double() if isinstance(x, torch.Tensor) else x for x in inputs]
                wanted = masked(*precise)[0]
                calls: dict[str, Callable[[], object]] = {
                    "dense": partial(dense, *inputs), "masked": partial(masked, *inputs),
                }  # fmt: skip
                for name in names:
                    form = SPEC.implementation(name).load()
                    error = float((form(*inputs)[0].double() - wanted).norm() / wanted.norm())
                    if error < SPEC.tolerance(dtype):
                        calls[name] = partial(form, *inputs)
                del precise, wanted
                took = seconds(calls, device, tokens, arguments.runs)
            figures = [f"{1e3 * took[name]:.3g}" if name in took else "wrong" for name in ("dense", "masked", *names)]
            ratio = f"{took['dense'] / took[names[0]]:.2f}" if names[0] in took else "-"
            print(f"| {shape} | {tokens} | {' | '.join(figures)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
