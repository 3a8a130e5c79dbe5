"""DSMoE's layer on a CPU: skipping closed blocks against the masked and the dense layer, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/dsmoe.py [--shapes 1B,7B] [--tokens 1,8,64,512] [--active 3] [--runs 7]

CPU seconds of this process, the least of the runs: other work on the machine adds to a run and never takes away.
"""

import argparse
import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from llmtool.core.kernels.dsmoe_ffn.reference import masked
from llmtool.core.kernels.dsmoe_ffn.skip import dsmoe_ffn as skip
from llmtool.core.kernels.dsmoe_ffn.spec import ONE_B, SEVEN_B, SPEC
from llmtool.core.kernels.spec import case
from llmtool.core.run.manifest import git_revision

SHAPES = {"1B": ONE_B, "7B": SEVEN_B, "small": (512, 2048)}


def least(functions: list[Callable[[], object]], runs: int) -> list[float]:
    best = [float("inf")] * len(functions)
    for _ in range(runs):
        for place, function in enumerate(functions):
            started = time.process_time()
            function()
            best[place] = min(best[place], time.process_time() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--shapes", default="small,1B")
    parser.add_argument("--tokens", default="1,2,4,8,16,64,512")
    parser.add_argument("--active", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread, "
          f"{arguments.dtype}, {arguments.active} of 8 blocks open, commit {git_revision()}")  # fmt: skip
    print("| shape | tokens | dense ms | masked ms | skipping ms | dense / skipping | masked / skipping |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.shapes.split(","):
        width, inner = SHAPES[name]
        for tokens in map(int, arguments.tokens.split(",")):
            made = case(tokens=tokens, width=width, inner=inner, experts=8, active=arguments.active)
            inputs = SPEC.make_inputs(made, dtype, torch.device("cpu"), torch.Generator().manual_seed(0))
            x, gate, up, down = inputs[:4]
            with torch.inference_mode():
                error = (skip(*inputs)[0] - masked(*inputs)[0]).norm() / masked(*inputs)[0].norm()
                assert error < SPEC.tolerance(dtype), error
                dense, whole, part = least(
                    [
                        lambda: F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down),  # noqa: B023
                        lambda: masked(*inputs),  # noqa: B023
                        lambda: skip(*inputs),  # noqa: B023
                    ],
                    arguments.runs,
                )
            figures = f"{1e3 * dense:.2f} | {1e3 * whole:.2f} | {1e3 * part:.2f}"
            print(f"| {name} | {tokens} | {figures} | {dense / part:.2f} | {whole / part:.2f} |", flush=True)


if __name__ == "__main__":
    main()
