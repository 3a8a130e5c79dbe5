"""`llmtool bench`: kernels, models, tokenizers and this machine, measured."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Only
from llmtool.commands.bench.settings import (
    CompileSettings,
    DecodingSettings,
    DeviceSettings,
    KernelSettings,
    MachineSettings,
    PeersSettings,
)
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Pages

app = Group("Measure kernels, models, tokenizers and this machine.")

Html = Annotated[Pages, Only("html")]
"""Those that have --markdown print it instead of their table."""

Ops = Annotated[list[str] | None, typer.Argument(help="Ops to look at; all if none is named.", metavar="[OP]...")]


@app.command("kernels")
def kernels(
    ops: Ops = None,
    *,
    settings: KernelSettings,
    pages: Html,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time each op beside its reference and rivals, as a share of what this machine can do."""
    from llmtool.commands.bench.kernels import time_kernels, tune_kernels

    console = options.console(quiet, verbose=False)
    if settings.tune:
        tune_kernels(ops or [], settings, console=console)
        return
    read = [settings.baseline] if settings.baseline else []
    muted = as_json or settings.markdown
    with pages.open("Kernels measured", console, read=read, force=settings.force, muted=muted) as page:
        report = time_kernels(ops or [], settings, as_json=as_json, console=page)
    if report["failed"] or report.get("slower"):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("compile")
def compile_(
    ops: Ops = None, *, settings: CompileSettings, as_json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Compile the kernels with no GPU; registers, spills, shared memory, tensor cores, wide loads."""
    from llmtool.commands.bench.kernels import compile_kernels

    report = compile_kernels(ops or [], settings, as_json=as_json, console=options.console(quiet, verbose=False))
    if settings.check and report["failed"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("machine")
def machine(settings: MachineSettings, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Say what this machine is, and measure what it can do: a large copy, a large matrix product."""
    from llmtool.commands.bench import machine as measure

    measure.machine(settings, as_json=as_json, console=options.console(quiet, verbose=False))


@app.command("device")
def device(
    ops: Ops = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A directory, new or of this run begun before. Default: device.", metavar="DIR"),
    ] = None,
    *,
    settings: DeviceSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """All there is to know of one GPU in a few minutes: a process a part, rows as they come, resumed where it ended.

    Parts: env, ceilings, tests (kernels against float64), big (tensors of more than 2^31 elements), ops (beside
    rivals), decode and train (Llama-3.2-1B's shape), tune (launch configurations). A part that fails costs only itself.
    On a CPU it is a rehearsal. Exit 3: something is wrong; 4: something is left, the same command goes on.
    """
    require("torch", extra="models", why="to measure")
    from llmtool.commands.bench.device.run import device as run

    found = run(out, ops or [], settings, as_json=as_json, console=options.console(quiet, verbose=False))
    if any(part["failed"] for part in found["parts"].values()):
        raise typer.Exit(ExitCode.CHECK_FAILED)
    if found["left"]:
        raise typer.Exit(ExitCode.RESUMABLE)


@app.command("decode")
def decode(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints, of one vocabulary or not, side by side.", metavar="CKPT...")
    ],
    settings: DecodingSettings,
    pages: Html,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time to the first token and per token, memory and bounds of checkpoints side by side."""
    from llmtool.commands.bench import decode as measure

    muted, console, force = as_json or settings.markdown, options.console(quiet, verbose=False), settings.force
    with pages.open("Decoding measured", console, read=checkpoints, force=force, muted=muted) as page:
        report = measure.decode(checkpoints, page.drawing(settings), as_json=as_json, console=page)
    if report["failed"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("tokenizer")
def tokenizer(
    corpus: Annotated[Path, typer.Argument(help="Text to measure on, 100 MB or more, and diverse.", metavar="CORPUS")],
    settings: PeersSettings,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Encode or train beside the fastest tokenizers installed; no ratio where the results differ."""
    from llmtool.commands.bench.tokenizer import measure

    console = options.console(quiet, verbose=False)
    title = "Tokenizers beside one another"
    with pages.open(title, console, read=[corpus], force=settings.force, muted=as_json) as page:
        report = measure.benchmark(corpus, settings, console=page)
        measure.show(report, page)
        if as_json:
            print(dumps(report))
