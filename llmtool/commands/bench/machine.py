"""`llmtool bench machine`: what this machine is, and what it can do."""

from typing import TYPE_CHECKING, Any

from llmtool.commands.bench.settings import MachineSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ChoiceError, UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps

if TYPE_CHECKING:
    import torch


def machine(
    settings: MachineSettings | None = None, *, as_json: bool = False, console: Console, **named_settings: Any
) -> dict[str, Any]:
    """Describe it, measure a large copy and large matrix products, and print both."""
    require_torch()
    import torch

    from llmtool.core.bench.ceilings import measure_ceilings, name_of
    from llmtool.core.bench.machine import describe

    place = find_place("cpu" if MachineSettings.of(settings, named_settings).cpu else "auto")
    dtypes = [torch.float32, torch.bfloat16]
    ceilings = []
    with console.progress("measuring", len(dtypes), "types") as bar:
        for dtype in dtypes:
            ceilings.append(measure_ceilings(place, dtype))
            bar.advance(1)
    report = {
        "schema": "llmtool.bench-machine/1",
        "machine": describe(place),
        "copy_bytes_per_s": max(each.copy for each in ceilings),
        "matmul_flops_per_s": {name_of(d): each.matmul for d, each in zip(dtypes, ceilings, strict=True)},
    }
    print(dumps(report) if as_json else "\n".join(lines(report)))
    return report


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    from llmtool.core.bench.report import operations

    facts = report["machine"]
    memory = "" if facts["memory"] is None else f", {facts['memory'] / 2**30:,.1f} GiB"
    found = [
        f"device: {facts['device']}",
        f"processor: {facts['cpu']}, {facts['cores']} cores{memory}, load {facts['load']}",
        f"threads of torch: {facts['threads']}",
        "versions: " + ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number),
        f"copy: {report['copy_bytes_per_s'] / 1e9:,.1f} GB/s, read and written",
    ]
    found += [f"matmul {name}: {operations(rate)}" for name, rate in report["matmul_flops_per_s"].items()]
    return found + [f"{name}: {value}" for name, value in facts.get("gpu", {}).items()]


def require_torch() -> None:
    """Or one line that names the extra."""
    require("torch", extra="models", why="to measure")


def find_place(name: str) -> "torch.device":
    """auto takes a GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise UserError("no GPU is available", hint="use the CPU")
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ChoiceError(f"device {name!r} is not known", hint="cpu, cuda or cuda:N") from None
