"""Check our Triton kernels with Triton's interpreter: right or wrong on any machine, nothing about speed.

    TRITON_INTERPRET=1 python -m llmtool.core.bench.interpret rms_norm

prints one JSON object a line. It is a process of its own because Triton reads the variable when it is imported and
then can no longer compile. bfloat16 arithmetic is silently wrong in the interpreter (kernels therefore widen to
float32 first), races are not seen and tensor cores not modelled: compile.py and a GPU look at these.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.core.run.json_file import dumps, parse_json

DTYPES = ("float32", "bfloat16")


def interpret(ops: Sequence[str], dtypes: Sequence[str] = DTYPES) -> Iterator[dict[str, Any]]:
    """Run this module in a child process; a row for each op, case, dtype and direction, as they come."""
    command = [sys.executable, "-m", "llmtool.core.bench.interpret", *ops, "--dtypes", ",".join(dtypes)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield parse_json(line)
    if child.returncode:
        raise RuntimeError(f"the interpreter's process ended with {child.returncode}")


def check_op(name: str, dtypes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every odd case of an op in this process."""
    import torch

    from llmtool.core.bench.gate import check
    from llmtool.core.kernels.registry import load_spec
    from llmtool.core.kernels.spec import OURS

    spec = load_spec(name)
    ours = spec.implementation(OURS).load()
    for case in spec.cases("odd"):
        for dtype in (getattr(torch, each) for each in dtypes):
            if dtype not in spec.dtypes:
                continue
            for direction in spec.directions:
                verdict = check(spec, ours, case, dtype, direction, torch.device("cpu"))
                yield {
                    "op": name, "case": dict(case.sizes), "dtype": str(dtype).removeprefix("torch."),
                    "direction": direction, "passed": verdict.passed, "error": verdict.error,
                    "tolerance": verdict.tolerance, "reason": verdict.reason,
                }  # fmt: skip


def main() -> None:
    """The child process."""
    ops, dtypes = sys.argv[1 : sys.argv.index("--dtypes")], sys.argv[-1].split(",")
    for op in ops:
        for row in check_op(op, dtypes):
            print(dumps(row), flush=True)


if __name__ == "__main__":
    main()
