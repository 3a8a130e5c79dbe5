"""`llmtool eval`: what a checkpoint knows."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.commands.eval.settings import RulerSettings
from llmtool.commands.options import method_settings
from llmtool.core.corpus.reading import Reading

app = Group("What a checkpoint knows and does on text.")

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
    reading: Reading = Reading(),
    bin_dtype: options.BinDtype = None,
    set_: options.Set = (),
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Nats a token and bits a byte, by source and by position."""
    from llmtool.commands.eval import loss

    console = options.console(quiet, verbose=False)
    report = loss.loss(
        checkpoint, data or [], tokenizer=tokenizer, length=length, tokens=tokens, mask_documents=mask_documents,
        settings=method_settings(set_), dtype=dtype, device=device, threads=threads, reading=reading,
        bin_dtype=bin_dtype, plot=plot, console=console,
    )  # fmt: skip
    print(json.dumps(report)) if as_json else loss.loss_table(report, console)


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
    set_: options.Set = (),
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Needle in a haystack: what is found at which depth of which length; without --data in random ids."""
    from llmtool.commands.eval import niah as search

    console = options.console(quiet, verbose=False)
    report = search.needles(
        checkpoint, data or [], tokenizer=tokenizer, lengths=length or [], depths=depth or search.DEPTHS,
        samples=samples, kind=kind, key=key, value=value, seed=seed, dtype=dtype, device=device, plot=plot,
        settings=method_settings(set_), console=console,
    )  # fmt: skip
    print(json.dumps(report)) if as_json else search.needle_table(report, console)


@app.command("ruler")
def ruler(
    checkpoint: options.Checkpoint,
    settings: RulerSettings,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Text or tokens to hide things in; may be given again.", metavar="DATA"),
    ] = None,
    set_: options.Set = (),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Ask questions over a long context, of RULER's kinds: needles, variables, common words, people."""
    from llmtool.commands.eval import ruler as command

    console = options.console(quiet, verbose=False)
    report = command.ruler(checkpoint, data or [], settings, methods=method_settings(set_), console=console)
    if as_json or settings.dry_run:
        print(json.dumps(report))
    else:
        command.lines(report, console)


@app.command("attention")
def attention(
    checkpoint: options.Checkpoint,
    data: Annotated[list[str], typer.Option("--data", help="Text to look at; may be given again.", metavar="TEXT")],
    kv_saving: Annotated[
        str, typer.Option("--kv-saving", help="Share of the cache that the plan saves.", metavar="SHARE")
    ] = "25%",
    measure: Annotated[
        Literal["cosine", "js"], typer.Option("--measure", help="Cosine, or 1 - Jensen-Shannon divergence / ln 2.")
    ] = "cosine",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Rows of text.", metavar="N")] = 16,
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens in a row.", metavar="N")] = 256,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Tokenizer, if the checkpoint has none.", metavar="DIR")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan for convert uniattn.", metavar="plan.json")
    ] = None,
    plot: options.Plot = None,
    device: options.Device = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Compare the layers' attention maps, and plan which layers can share one for the wanted saving."""
    from llmtool.commands.convert.uniattn import Calibration
    from llmtool.commands.eval.attention import evaluate_attention, show

    console = options.console(quiet, verbose=False)
    facts = evaluate_attention(
        checkpoint, Calibration(data, samples, window, tokenizer), kv_saving=kv_saving, measure=measure, figure=plot,
        output=output, device=device, force=force, console=console,
    )  # fmt: skip
    if as_json:
        print(json.dumps(facts))
    else:
        show(facts, console)


@app.command("experts")
def experts(
    checkpoint: options.Checkpoint,
    data: Annotated[
        list[str],
        typer.Option("--data", help="Text, each given file or directory a source of its own.", metavar="INPUT"),
    ],
    taus: Annotated[
        str, typer.Option("--taus", help="Thresholds of the curve.", metavar="X,Y,...")
    ] = "0.2,0.3,0.4,0.5,0.6,0.7,0.8",
    dense: Annotated[
        Path | None, typer.Option("--dense", help="Checkpoint to compare the loss with.", metavar="CKPT")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=8, help="Tokens of each source.", metavar="N")] = 4096,
    length: Annotated[int, typer.Option("--length", min=8, help="Tokens in a row.", metavar="N")] = 256,
    set_: options.Set = (),
    plot: options.Plot = None,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Show which experts a DSMoE checkpoint uses, by layer and by text source, and its loss at other thresholds."""
    from llmtool.commands.eval import experts as command

    facts = command.experts(
        checkpoint, data, taus=taus, tokens=tokens, length=length, dense=dense, plot=plot,
        settings=method_settings(set_), dtype=dtype, device=device, console=options.console(quiet, verbose=False),
    )  # fmt: skip
    print(json.dumps(facts) if as_json else "\n".join(command.lines(facts)))
