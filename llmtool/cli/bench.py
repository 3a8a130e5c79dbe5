"""`llmtool bench`: compile."""

from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS
from llmtool.core.run.errors import ExitCode

app = typer.Typer(no_args_is_help=True, help="Measure and check kernels, models and this machine.", **SETTINGS)

Ops = Annotated[list[str] | None, typer.Argument(help="Ops to look at; all if none is named.", metavar="[OP]...")]


@app.command("compile")
def compile_(
    ops: Ops = None,
    arch: Annotated[
        str, typer.Option("--arch", help="GPU architectures, with commas between.", metavar="sm_NN,...")
    ] = "sm_80,sm_90,sm_100",
    first: Annotated[bool, typer.Option("--first", help="One configuration of each kernel, for CI.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 where code is not what it must be.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compile the kernels with no GPU; registers, spills, shared memory, tensor cores, wide loads."""
    from llmtool import benchmarking

    report = benchmarking.compile_kernels(
        ops or [], arch.split(","), first=first, as_json=as_json, console=options.console(quiet, verbose=False)
    )
    if check and report["failed"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
