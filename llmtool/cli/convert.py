"""`llmtool convert`: checkpoints inspected, copied and rewritten."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS

app = typer.Typer(no_args_is_help=True, help="Checkpoints: inspect, copy, convert.", **SETTINGS)


@app.command("inspect")
def inspect(
    checkpoint: options.Checkpoint,
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Positions that a token attends to. Default: 4096.", metavar="N"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Parameters, bytes, FLOPs and KV bytes a token, by layer; reads headers and config.json only."""
    from llmtool.core.checkpoint import inspection
    from llmtool.core.checkpoint.directory import open_checkpoint

    facts = inspection.describe(open_checkpoint(checkpoint), context)
    for problem in facts["problems"]:
        options.console(quiet=False, verbose=False).warn(f"{checkpoint}: {problem}")
    print(json.dumps(facts) if as_json else "\n".join(inspection.lines(facts)))


@app.command("copy")
def copy(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: options.Dtype = None,
    max_shard_size: options.MaxShardSize = "5GB",
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Write a checkpoint again, in another element type or other shards, one tensor in memory at a time."""
    from llmtool.core.checkpoint.copying import copy_checkpoint
    from llmtool.core.corpus.sizes import parse_size

    report = copy_checkpoint(
        checkpoint, output, dtype=dtype, max_shard_size=parse_size(max_shard_size), force=force, dry_run=dry_run,
        console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(json.dumps(report))


@app.command("export")
def export(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: options.Dtype = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checkpoint that stock transformers loads with trust_remote_code=True where llmtool is not installed."""
    from llmtool import model

    console = options.console(quiet, verbose=False)
    report = model.export(checkpoint, output, dtype=dtype, force=force, console=console)
    if as_json:
        print(json.dumps(report))
