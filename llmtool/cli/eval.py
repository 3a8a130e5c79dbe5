"""`llmtool eval`: what a checkpoint knows."""

import json
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS

app = typer.Typer(
    no_args_is_help=True, help="Evaluate checkpoints: loss by position, needles in haystacks.", **SETTINGS
)

Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Text or tokens, [NAME=]PATH; may be given again.", metavar="DATA"),
]
Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", help="For text. Default: the checkpoint's.", metavar="TOK")
]


@app.command("loss")
def loss(
    checkpoint: options.Checkpoint,
    data: Data = None,
    tokenizer: Tokenizer = None,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="Tokens in a row. Default: the model's, 2048 at most.")
    ] = None,
    tokens: Annotated[str, typer.Option("--tokens", help="Tokens of each source, at most.", metavar="TOKENS")] = "1M",
    mask_documents: Annotated[
        bool, typer.Option("--mask-documents", help="No token sees another document of its row.")
    ] = False,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Nats a token and bits a byte, by source and by position."""
    from llmtool import evaluation

    console = options.console(quiet, verbose=False)
    report = evaluation.loss(
        checkpoint, data or [], tokenizer=tokenizer, length=length, tokens=tokens, mask_documents=mask_documents,
        dtype=dtype, device=device, threads=threads, plot=plot, console=console,
    )  # fmt: skip
    print(json.dumps(report)) if as_json else evaluation.loss_table(report, console)


@app.command("niah")
def niah(
    checkpoint: options.Checkpoint,
    data: Data = None,
    tokenizer: Tokenizer = None,
    length: Annotated[
        list[int] | None,
        typer.Option("--length", min=2, help="Context; may be given again. Default: quarters of the model's."),
    ] = None,
    depth: Annotated[
        list[float] | None,
        typer.Option(
            "--depth", min=0, max=1, help="Place of the needle; may be given again. Default: 0 to 1 in quarters."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Needles in each cell.")] = 16,
    kind: Annotated[
        Literal["auto", "words", "ids"],
        typer.Option("--kind", help="Needles of words or of random ids; auto: words where --data is given."),
    ] = "auto",
    key: Annotated[int, typer.Option("--key", min=1, help="Ids of a key, with --kind ids.")] = 4,
    value: Annotated[int, typer.Option("--value", min=1, help="Ids of a value, with --kind ids.")] = 4,
    seed: options.Seed = 0,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Needle in a haystack: what is found at which depth of which length; without --data in random ids."""
    from llmtool import evaluation

    console = options.console(quiet, verbose=False)
    report = evaluation.needles(
        checkpoint, data or [], tokenizer=tokenizer, lengths=length or [], depths=depth or evaluation.DEPTHS,
        samples=samples, kind=kind, key=key, value=value, seed=seed, dtype=dtype, device=device, plot=plot,
        console=console,
    )  # fmt: skip
    print(json.dumps(report)) if as_json else evaluation.needle_table(report, console)
