"""`llmtool bench`: kernels, models, tokenizers and this machine, measured."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps

app = Group("Measure kernels, models, tokenizers and this machine.")

Ops = Annotated[list[str] | None, typer.Argument(help="Ops to look at; all if none is named.", metavar="[OP]...")]
Rows = Annotated[
    Path | None, typer.Option("--rows", help="A new file of JSON lines: rows go there as they come.", metavar="FILE")
]
Budget = Annotated[
    float | None, typer.Option("--budget", min=1, help="Begin nothing new after so many seconds.", metavar="S")
]
Cpu = Annotated[bool, typer.Option("--cpu", help="The CPU, also where there is a GPU.")]


@app.command("kernels")
def kernels(
    ops: Ops = None,
    sizes: Annotated[
        str | None,
        typer.Option("--sizes", help="odd, small (a CPU's), large (a GPU's), or rows=4096,...", metavar="SIZES"),
    ] = None,
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"] | None, typer.Option("--dtype", help="Default: bf16 on a GPU, fp32 on a CPU.")
    ] = None,
    cpu: Cpu = False,
    direction: Annotated[
        Literal["forward", "training"] | None,
        typer.Option("--direction", help="forward alone, or with its gradients; default: both."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="Time for each measurement.", metavar="S")
    ] = 1.0,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Time torch.compile too; on a GPU by default.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Without a GPU: interpret and compile our kernels.")
    ] = True,
    as_json: options.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw OP.png for each op here.", metavar="DIR")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Measure launch configurations instead; rows for tuning.json.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="An earlier --json of this device.", metavar="FILE")
    ] = None,
    max_slowdown: Annotated[
        float, typer.Option("--max-slowdown", min=1, help="Exit with 3 where ours takes so many times longer.")
    ] = 1.05,
    rows: Rows = None,
    budget: Budget = None,
    quiet: options.Quiet = False,
) -> None:
    """Time each op beside its reference and rivals, as a share of what this machine can do."""
    from llmtool.commands.bench.kernels import time_kernels, tune_kernels

    if tune:
        tune_kernels(
            ops or [], sizes=sizes, dtype=dtype, rows_to=rows, budget=budget,
            console=options.console(quiet, verbose=False),
        )  # fmt: skip
        return
    report = time_kernels(
        ops or [], sizes=sizes, dtype=dtype, device="cpu" if cpu else "auto", direction=direction, seconds=seconds,
        compiled=compiled, checks=checks, output="json" if as_json else "markdown" if markdown else "table",
        plot=plot, baseline=baseline, max_slowdown=max_slowdown, rows_to=rows, budget=budget,
        console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if report["failed"] or report.get("slower"):
        raise typer.Exit(ExitCode.CHECK_FAILED)


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
    from llmtool.commands.bench.kernels import compile_kernels

    report = compile_kernels(
        ops or [], arch.split(","), first=first, as_json=as_json, console=options.console(quiet, verbose=False)
    )
    if check and report["failed"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("machine")
def machine(cpu: Cpu = False, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Say what this machine is, and measure what it can do: a large copy, a large matrix product."""
    from llmtool.commands.bench import machine as measure

    measure.machine(device="cpu" if cpu else "auto", as_json=as_json, console=options.console(quiet, verbose=False))


@app.command("decode")
def decode(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints, of one vocabulary or not, side by side.", metavar="CKPT...")
    ],
    batch: Annotated[str, typer.Option("--batch", help="Rows decoded together: 1,8.", metavar="N,...")] = "1",
    context: Annotated[str, typer.Option("--context", help="Tokens of a prompt: 128,1024.", metavar="N,...")] = "128",
    new: Annotated[int, typer.Option("--new", min=2, help="Tokens decoded after each prompt.", metavar="N")] = 32,
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Runs of each; medians are shown.", metavar="N")] = 5,
    kernels: options.Kernels = "auto",
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    plot: options.Plot = None,
    rows: Rows = None,
    budget: Budget = None,
    quiet: options.Quiet = False,
) -> None:
    """Time to the first token and per token, memory and bounds of checkpoints side by side."""
    from llmtool.commands.bench import decode as measure

    report = measure.decode(
        checkpoints, batches=options.numbers(batch, "--batch"), contexts=options.numbers(context, "--context"), new=new,
        rounds=rounds, dtype=dtype, device=device, kernels=kernels, plot=plot, rows_to=rows, budget=budget,
        console=options.console(quiet, False),
        output="json" if as_json else "markdown" if markdown else "table",
    )  # fmt: skip
    if report["failed"]:
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
    from llmtool.commands.bench.tokenizer import measure

    console = options.console(quiet, verbose=False)
    report = measure.benchmark(
        corpus, task, threads=threads, repeats=repeats, only=only or (), pretokenizer=pretokenizer, directory=keep,
        console=console,
    )  # fmt: skip
    print(dumps(report) if as_json else "\n".join(measure.lines(report)))
