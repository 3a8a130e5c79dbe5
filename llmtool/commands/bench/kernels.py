"""`llmtool bench kernels` and `llmtool bench compile`."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.bench.machine import find_place, require_torch
from llmtool.commands.bench.settings import ARCHITECTURES, CompileSettings, KernelSettings
from llmtool.core.kernels.registry import known_ops, load_spec
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ChoiceError, UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.manifest import code, git_revision
from llmtool.core.run.numbers import whole
from llmtool.core.run.outputs import refuse_overlap
from llmtool.core.run.page import Page
from llmtool.core.run.wording import counted

if TYPE_CHECKING:
    from llmtool.core.kernels.spec import Case, Spec

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def compile_kernels(
    ops: Sequence[str] = (),
    settings: CompileSettings | None = None,
    *,
    as_json: bool = False,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """`llmtool bench compile`: a row for each configuration and architecture; `failed` of them have `problems`."""
    asked = CompileSettings.of(settings, named_settings)
    names, archs = known_ops(ops), asked.arch.split(",")
    require_torch()
    if find_spec("triton") is None:  # not imported here: in this process it must stay free to interpret or to compile
        raise UserError("triton is needed to compile kernels", hint="pip install 'llmtool[kernels]'")
    from llmtool.core.bench.compile import check_archs, compile_ops

    check_archs(archs)
    rows = []
    with console.progress("compiling", None, "configurations") as bar:
        for row in compile_ops(names, archs, first=asked.first):
            rows.append(row)
            bar.advance(1)
    failed = [row for row in rows if row["problems"]]
    commit = git_revision()
    report = {
        "schema": "llmtool.bench-compile/1",
        "triton": metadata.version("triton"),
        "commit": commit,
        "rows": rows,
        "failed": len(failed),
    }
    if as_json:
        print(dumps(report))
    else:
        _compile_table(f"triton {report['triton']}, {code(commit)}", rows, console)
    for row in failed:
        console.warn(f"{row['op']} {row['config']} on {row['arch']}: {'; '.join(row['problems'])}")
    return report


def _compile_table(title: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    header = ["op", "kernel", "arch", "warps", "stages", "registers", "spills", "shared", "matrix", "wide loads",
              "occupied", "issue", ""]  # fmt: skip
    facts = ("registers", "spills", "shared", "tensor_cores", "wide_loads")
    cells = [
        [row["op"], row["config"], row["arch"], str(row["num_warps"]), str(row["num_stages"])]
        + [f"{row[fact]:,}" if fact in row else "-" for fact in facts]
        + [f"{row['occupancy']:.0%}" if "occupancy" in row else "-"]
        + [f"{row['issue']:.2f}" if row.get("issue") is not None else "-"]
        + ["FAILED" if row["problems"] else "ok"]
        for row in rows
    ]
    note = (
        "registers a thread; spills and shared in bytes; matrix: tensor-core instructions; wide: of 128 bits; "
        "occupied: warps that a multiprocessor holds, of its most; issue: instructions of the loop around the products "
        "a cycle that these take a tensor core (above 1 it waits)"
    )
    console.table(title, header, cells, note, result=True)


def time_kernels(
    ops: Sequence[str] = (),
    settings: KernelSettings | None = None,
    *,
    as_json: bool = False,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """`llmtool bench kernels`: `failed` rows did not pass the correctness gate, `slower` ones fell behind the baseline.

    The report goes to stdout. On a GPU several ops are several processes, one after the other: an illegal access
    leaves its process no device.
    """
    asked = KernelSettings.of(settings, named_settings)
    names = known_ops(ops)
    require_torch()
    import torch

    from llmtool.core.bench.baseline import SCHEMA, read_baseline, slower
    from llmtool.core.bench.ceilings import measure_ceilings
    from llmtool.core.bench.kernels import add_shares, time_op
    from llmtool.core.bench.machine import describe
    from llmtool.core.bench.report import plot as draw
    from llmtool.core.bench.rows import append, refuse_existing

    until = math.inf if asked.budget is None else time.monotonic() + asked.budget
    read = [asked.baseline] if asked.baseline else []
    refuse_existing(asked.rows, read)
    if asked.plot is not None:
        _claim_figures(asked.plot, names, read, force=asked.force)
    place = find_place("cpu" if asked.cpu else "auto")
    on_gpu = place.type == "cuda"
    direction, plot = asked.direction, asked.plot
    dtype = asked.dtype or ("bf16" if on_gpu else "fp32")
    kind = getattr(torch, DTYPES[dtype])
    facts = describe(place)
    before = None if asked.baseline is None else read_baseline(asked.baseline, facts["device"])
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
    work = [(load_spec(name), cases_of(load_spec(name), asked.sizes, on_gpu)) for name in names]
    rows: list[dict[str, Any]] = []
    total = sum(len(cases) * len([d for d in spec.directions if direction in (None, d)]) for spec, cases in work)
    console.info(f"{facts['device']}: measuring its ceilings, then {counted(total, 'case')}")
    ceilings = measure_ceilings(place, kind)
    with console.progress("timing", total, "cases") as bar:
        for number, (spec, cases) in enumerate(work, 1):
            console.info(f"timing {spec.name}, {number} of {counted(len(work), 'op')}")
            how: dict[str, Any] = {
                "directions": None if direction is None else [direction], "seconds": asked.seconds, "until": until,
                "compiled": on_gpu if asked.compiled is None else asked.compiled,
            }  # fmt: skip
            if on_gpu and len(work) > 1:
                coming = elsewhere(spec.name, {"sizes": asked.sizes, "dtype": dtype, "device": str(place), **how})
            else:
                coming = time_op(spec, cases, kind, place, told=lambda: bar.advance(1), **how)
            for row in coming:
                if asked.rows is not None:
                    append(asked.rows, {"schema": SCHEMA, **row})
                rows.append(row)
    with suppress(RuntimeError):  # a device that a kernel has broken measures nothing more
        ceilings = ceilings.best(measure_ceilings(place, kind))  # a neighbour that was busy before may have left
    add_shares(rows, ceilings)
    checked = check_without_gpu(names, console) if asked.checks and not on_gpu and find_spec("triton") else None
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": facts,
        "after": describe(place).get("gpu"),
        "ceilings": ceilings.to_json(),
        "rows": rows,
        "without_gpu": checked,
        "failed": len([row for row in rows if "failed" in row]) + (checked["failed"] if checked else 0),
    }
    if before is not None:
        report["slower"], report["compared"] = slower(rows, before, asked.max_slowdown)
    _print_report(report, asked, console, as_json=as_json)
    if plot is not None:
        written = draw(rows, plot, f"{facts['device']}, {dtype}, torch {facts['versions']['torch']}")
        console.info(f"{plot}: {', '.join(path.name for path in written)}")
    return report


def _claim_figures(folder: Path, names: Sequence[str], read: Sequence[Path], *, force: bool) -> None:
    refuse_overlap([folder], read)
    require("matplotlib", extra="plots", why="to draw a benchmark")
    if folder.exists() and not folder.is_dir():
        raise UserError("not a directory", where=str(folder), hint="name a directory for the figures")
    for name in names if folder.is_dir() else ():
        claim_figure(folder / f"{name}.png", read=read, force=force)


def elsewhere(op: str, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of one op from a process of its own; what it died of, if it did, is a row too."""
    command = [sys.executable, "-c", f"from {__name__} import child; child()", op, dumps(how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield parse_json(line)
    if process.returncode:
        yield {
            "op": op, "case": {}, "dtype": DTYPES[how["dtype"]], "direction": "forward", "flops": 0.0, "bytes": 0.0,
            "implementation": "ours", "own": True, "failed": f"its process ended with {process.returncode}",
        }  # fmt: skip


def child() -> None:
    """The process of one op: rows on stdout, a line each. `until` is of a clock that all processes share."""
    import torch

    from llmtool.core.bench.kernels import time_op

    op, how = sys.argv[1], parse_json(sys.argv[2])
    spec, place = load_spec(op), torch.device(how.pop("device"))
    cases = cases_of(spec, how.pop("sizes"), on_gpu=place.type == "cuda")
    for row in time_op(spec, cases, getattr(torch, DTYPES[how.pop("dtype")]), place, **how):
        print(dumps(row), flush=True)


def tune_kernels(
    ops: Sequence[str] = (), settings: KernelSettings | None = None, *, console: Console, **named_settings: Any
) -> None:
    """`llmtool bench kernels --tune`: print rows for core/kernels/tuning.json, measured on this GPU."""
    asked = KernelSettings.of(settings, named_settings)
    names = known_ops(ops)
    require_torch()
    import torch

    from llmtool.core.bench.machine import describe
    from llmtool.core.bench.rows import append, refuse_existing
    from llmtool.core.bench.tune import rows_of, tune_op

    until = math.inf if asked.budget is None else time.monotonic() + asked.budget
    refuse_existing(asked.rows)
    if not torch.cuda.is_available():
        raise UserError("no GPU is available", hint="launch configurations are measured on the GPU they are for")
    place, kind = torch.device("cuda"), getattr(torch, DTYPES[asked.dtype or "bf16"])
    work = [(load_spec(name), cases_of(load_spec(name), asked.sizes, True)) for name in names]
    found: list[dict[str, Any]] = []
    total = sum(each.runs(case) for spec, cases in work for case in cases for each in spec.tunings().values())
    with console.progress("tuning", total, "kernels") as bar:
        for spec, cases in work:
            for row in tune_op(spec, cases, kind, place, until=until):
                if asked.rows is not None:
                    append(asked.rows, row)
                found.append(row)
                bar.advance(1)
    print(dumps(rows_of(describe(place)["device"], found), indent=2))


def cases_of(spec: "Spec", sizes: str | None, on_gpu: bool) -> "Sequence[Case]":
    """The cases of a kind, or the op's first one of its kind with some sizes changed."""
    from llmtool.core.kernels.spec import SIZES, Case

    usual = "large" if on_gpu else "small"
    if sizes is None or sizes in SIZES:
        return spec.cases(sizes or usual)  # type: ignore[arg-type]
    known = dict(spec.cases(usual)[0].sizes)  # type: ignore[arg-type]
    for word in sizes.split(","):
        name, _, number = word.partition("=")
        if name not in known:
            hint = f"{', '.join(SIZES)}, or of {spec.name} {','.join(f'{k}={v}' for k, v in known.items())}"
            raise ChoiceError(f"sizes {word!r} are not known to {spec.name}", hint=hint)
        known[name] = whole(number, f"--sizes {name}", low=1, high=1 << 40)
    return [Case(known)]


def check_without_gpu(names: Sequence[str], console: Console) -> dict[str, Any]:
    """Our Triton kernels by the interpreter (right or wrong) and the compiler (how well), each in its own process."""
    from llmtool.core.bench.compile import compile_ops
    from llmtool.core.bench.interpret import interpret

    interpreted, compiled = [], []
    console.info(f"checking {counted(len(names), 'Triton op')} without a GPU: by the interpreter, and by the compiler")
    with console.progress("interpreting kernels", None, "checks") as bar:
        for row in interpret(names):
            interpreted.append(row)
            bar.advance(1)
    with console.progress("compiling kernels", None, "configurations") as bar:
        for row in compile_ops(names, ARCHITECTURES.split(","), first=True):
            compiled.append(row)
            bar.advance(1)
    wrong = [row for row in interpreted if not row["passed"]] + [row for row in compiled if row["problems"]]
    return {"interpreter": interpreted, "compiler": compiled, "failed": len(wrong)}


def _print_report(report: dict[str, Any], asked: KernelSettings, console: Console, *, as_json: bool) -> None:
    from llmtool.core.bench.report import HEADER, legend, markdown, not_run, table_rows

    facts, rows = report["machine"], report["rows"]
    title = (
        f"{facts['device']}, {report['ceilings']['dtype']}, torch {facts['versions']['torch']}, {code(facts['commit'])}"
    )
    notes = [legend(report["ceilings"]), *not_run(rows), *_notes(report)]
    if as_json:
        print(dumps(report))
    elif asked.markdown:
        print(markdown(rows, title, notes))
    if isinstance(console, Page) or not (as_json or asked.markdown):
        console.table(title, HEADER, list(table_rows(rows)), "\n".join(notes), result=True)
    for row in rows:
        if "failed" in row:
            console.warn(f"{row['op']} {row['implementation']} {row['direction']}: {row['failed']}: no speed is given")
    for row in report.get("slower", ()):
        name = f"{row['op']} {row['implementation']} {row['direction']}"
        console.warn(f"{name}: {row['slowdown']:.2f} times its baseline")


def _notes(report: dict[str, Any]) -> list[str]:
    checked = report["without_gpu"]
    notes = []
    if report["machine"]["kind"] == "cpu":
        notes.append("No GPU: the times are of CPU code, and say nothing about the Triton kernels.")
    if checked:
        right = sum(row["passed"] for row in checked["interpreter"])
        well = sum(not row["problems"] for row in checked["compiler"])
        notes.append(
            f"Triton kernels, checked without a GPU: {right} of {len(checked['interpreter'])} cases are right in the "
            f"interpreter, {well} of {len(checked['compiler'])} configurations compile as they must; none was timed."
        )
    if "slower" in report:
        notes.append(f"{len(report['slower'])} of {report['compared']} rows are slower than the baseline allows.")
    return notes
