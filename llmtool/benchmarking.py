"""`llmtool bench`: what the commands do, callable from Python."""

import json
from collections.abc import Sequence
from typing import Any

from llmtool.core.kernels.registry import OPS, known_ops
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require


def compile_kernels(
    ops: Sequence[str] = (),
    archs: Sequence[str] = ("sm_80", "sm_90", "sm_100"),
    *,
    first: bool = False,
    as_json: bool = False,
    console: Console,
) -> dict[str, Any]:
    """`llmtool bench compile`: a row for each configuration and architecture; `failed` of them have `problems`."""
    names = known_ops(ops)
    _require_kernels()
    from llmtool.core.bench.compile import check_archs, compile_ops

    check_archs(archs)
    rows = []
    with console.progress("compiling", None, "configurations") as bar:
        for row in compile_ops(names, archs, first=first):
            rows.append(row)
            bar.advance(1)
    failed = [row for row in rows if row["problems"]]
    report = {"schema": "llmtool.bench-compile/1", "rows": rows, "failed": len(failed)}
    if as_json:
        print(json.dumps(report))
        return report
    _compile_table(rows, console)
    for row in failed:
        console.warn(f"{row['op']} {row['config']} on {row['arch']}: {'; '.join(row['problems'])}")
    return report


def _compile_table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    header = ["op", "kernel", "arch", "warps", "stages", "registers", "spills", "shared", "matrix", "wide loads", ""]
    facts = ("registers", "spills", "shared", "tensor_cores", "wide_loads")
    cells = [
        [row["op"], row["config"], row["arch"], str(row["num_warps"]), str(row["num_stages"])]
        + [f"{row[fact]:,}" if fact in row else "-" for fact in facts]
        + ["FAILED" if row["problems"] else "ok"]
        for row in rows
    ]
    note = "registers a thread; spills and shared in bytes; matrix: tensor-core instructions; wide: of 128 bits"
    console.table("", header, cells, note, result=True)


def _require_kernels() -> None:
    """torch and triton, with the line that names the extra."""
    require("torch", extra="models", why="to describe the kernels")
    from importlib.util import find_spec

    if find_spec("triton") is None:  # not imported here: in this process it must stay free to interpret or to compile
        raise UserError("triton is needed to check kernels", hint="pip install 'llmtool[kernels]'")


__all__ = ["OPS", "compile_kernels"]
