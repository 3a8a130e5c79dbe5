"""`llmtool eval`: what checkpoints do on text."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS

app = typer.Typer(no_args_is_help=True, help="Evaluate checkpoints.", **SETTINGS)


@app.callback()
def group() -> None:
    """Evaluate checkpoints."""


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
    set_: options.Set = None,
    plot: options.Plot = None,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Show which experts a DSMoE checkpoint uses, by layer and by text source, and its loss at other thresholds."""
    from llmtool import model
    from llmtool.methods.dsmoe import experts_command as command

    given = options.settings(set_)
    facts = command.experts(
        checkpoint, data, taus=taus, tokens=tokens, length=length, dense=dense, plot=plot,
        load=lambda path: model.load_model(
            path, dtype, device, settings=given if path == checkpoint else None
        ),
        console=options.console(quiet, verbose=False),
    )  # fmt: skip
    print(json.dumps(facts) if as_json else "\n".join(command.lines(facts)))
