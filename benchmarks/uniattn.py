"""Attention of a group of layers in decoding, leaders and followers against as many plain layers, by batch x context.

    python benchmarks/uniattn.py [--group 4] [--json FILE]

One token a row, caches filled with random numbers, projections left out: softmax(q k^T) v alone. plain: SDPA in every
layer, the query heads of a group as rows. shared: P once, then P V in every layer (on a GPU with Triton, the kernel
core/kernels/shared_softmax_attention). Both are checked against each other first. The least of several interleaved
runs: CPU time on a CPU, which other processes do not change, device time on a GPU.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from llmtool.core.model.attention import scaled_dot_product
from llmtool.core.run.manifest import git_revision
from llmtool.methods.uniattn.part import Weigh, probabilities, weigh

HEADS, SHARED, SIZE = 32, 8, 128
"""Llama-3.1-8B's: query heads, key-value heads, size of a head."""
SHAPES = ((1, 1024), (1, 4096), (1, 16384), (8, 1024), (8, 4096), (64, 4096), (16, 16384), (1, 131072))


def bound(group: int) -> float:
    """Bytes read by plain layers over those read with shared P: 2 L and 1 + L tensors of a cache."""
    return 2 * group / (1 + group)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """CPU or device time of one run."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(
    batch: int, context: int, group: int, dtype: torch.dtype, device: torch.device, runs: int
) -> dict[str, float]:
    """The least time of each form, after a check that they agree."""
    draw = torch.Generator(device).manual_seed(0)
    shape = (batch, SHARED, context, SIZE)
    queries = [torch.randn(batch, HEADS, 1, SIZE, generator=draw, device=device).to(dtype) for _ in range(group)]
    keys = [torch.randn(shape, generator=draw, device=device).to(dtype) for _ in range(group)]
    values = [torch.randn(shape, generator=draw, device=device).to(dtype) for _ in range(group)]
    kernel: Weigh = weigh
    if device.type == "cuda":
        from llmtool.core.kernels.shared_softmax_attention.triton import shared_softmax_attention as kernel

    def plain() -> list[torch.Tensor]:
        return [scaled_dot_product(q, k, v, None) for q, k, v in zip(queries, keys, values, strict=True)]

    def shared() -> list[torch.Tensor]:
        p = probabilities(queries[0], keys[0], None)
        return [kernel(p, v) for v in values]

    wanted = [scaled_dot_product(queries[0], keys[0], v, None) for v in values]
    error = max(float((a - b).abs().max()) for a, b in zip(shared(), wanted, strict=True))
    if error > (1e-4 if dtype == torch.float32 else 2e-2):
        raise SystemExit(f"batch {batch}, context {context}: the two forms differ by {error:g}: no speed is printed")
    times = [(seconds(plain, device), seconds(shared, device)) for _ in range(runs)]
    one, other = (min(column) for column in zip(*times, strict=True))
    return {"batch": batch, "context": context, "plain_ms": one * 1e3, "shared_ms": other * 1e3, "ratio": one / other}


def main() -> None:
    """Measure every shape that fits, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--dtype", default=None, choices=["float32", "bfloat16"])
    parser.add_argument("--most", type=float, default=2e9, help="bytes of caches at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, options.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    print(f"group of {options.group}, {str(dtype)[6:]}, {name}; by bytes at most {bound(options.group):.2f}x")
    rows = []
    with torch.inference_mode():
        for batch, context in SHAPES:
            if 2 * options.group * batch * context * SHARED * SIZE * dtype.itemsize > options.most:
                continue
            row = measure(batch, context, options.group, dtype, device, options.runs)
            rows.append(row)
            times = f"plain {row['plain_ms']:8.2f} ms, shared {row['shared_ms']:8.2f} ms, {row['ratio']:.2f}x"
            print(f"batch {batch:>3} context {context:>7,}: {times}")
    if options.json:
        facts = {
            "schema": "llmtool.benchmark-uniattn/1", "group": options.group, "dtype": str(dtype)[6:], "device": name,
            "torch": torch.__version__, "git": git_revision(), "bound": bound(options.group), "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
