"""`llmtool eval`: what a checkpoint can do, and what is inside."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS

app = typer.Typer(no_args_is_help=True, help="Evaluate checkpoints.", **SETTINGS)


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
    from llmtool.conversion.attention import evaluate_attention, show
    from llmtool.conversion.uniattn import Calibration

    console = options.console(quiet, verbose=False)
    facts = evaluate_attention(
        checkpoint, Calibration(data, samples, window, tokenizer), kv_saving=kv_saving, measure=measure, figure=plot,
        output=output, device=device, force=force, console=console,
    )  # fmt: skip
    if as_json:
        print(json.dumps(facts))
    else:
        show(facts, console)
