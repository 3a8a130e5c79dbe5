"""`llmtool bench`: kernels, models, tokenizers and this machine, measured."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS
from llmtool.core.run.errors import ExitCode

app = typer.Typer(no_args_is_help=True, help="Measure kernels, models, tokenizers and this machine.", **SETTINGS)

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


@app.command("tokenizer")
def tokenizer(
    corpus: Annotated[Path, typer.Argument(help="Text to measure on, 100 MB or more, and diverse.", metavar="CORPUS")],
    task: Annotated[Literal["encode", "train", "hostile"], typer.Option("--task", help="What is measured.")] = "encode",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of every contender.", metavar="N")] = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs, of which medians are shown.")] = 5,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Measure this one; may be given again.", metavar="NAME")
    ] = None,
    pretokenizer: Annotated[
        Literal["gpt2", "cl100k", "o200k", "llama3", "qwen2"],
        typer.Option("--pretokenizer", help="Style of the tokenizers that are trained for encoding."),
    ] = "llama3",
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the trained tokenizers here, and use them again.", metavar="DIR")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Encode or train beside the fastest tokenizers installed; no ratio where the results differ."""
    from llmtool.tokenizer_benchmark import measure

    console = options.console(quiet, verbose=False)
    report = measure.benchmark(
        corpus, task, threads=threads, repeats=repeats, only=only or (), pretokenizer=pretokenizer, directory=keep,
        console=console,
    )  # fmt: skip
    print(json.dumps(report) if as_json else "\n".join(measure.lines(report)))
