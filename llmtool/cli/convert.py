"""`llmtool convert`: checkpoints inspected, copied and rewritten."""

import json
from pathlib import Path
from typing import Annotated, Literal

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


@app.command("uniattn")
def uniattn(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    groups: Annotated[
        str | None,
        typer.Option("--groups", help="Groups of G layers from layer B up to E, from 0: 4:16:33.", metavar="G:B:E"),
    ] = None,
    followers: Annotated[
        str | None,
        typer.Option(
            "--followers", help="Layers that follow the one before their run, 17,18,19; or none.", metavar="LIST"
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Groups that `eval attention` found.", metavar="FILE")
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option("--calibration", help="Text to find W_c on; may be given again.", metavar="TEXT"),
    ] = None,
    init: Annotated[
        Literal["lstsq", "paper", "zero"],
        typer.Option("--init", help="W_c by least squares over tokens, over positions (the paper's), or zero."),
    ] = "lstsq",
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Rank of W_c; full if not given.")] = None,
    ridge: Annotated[
        float | None,
        typer.Option("--ridge", min=0, help="Ridge of lstsq, times trace(G)/d; else chosen on held-out rows."),
    ] = None,
    sharing: Annotated[
        Literal["uniattn", "softmax-only", "cla"],
        typer.Option("--sharing", help="For comparison: no W_c, or keys and values shared at the same saving."),
    ] = "uniattn",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Rows of calibration text.", metavar="N")] = 128,
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Tokens in a row; else 1024 or the model's limit.", metavar="N"),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Tokenizer, if the checkpoint has none.", metavar="DIR")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Let layers share a softmax: followers lose q_proj, k_proj and their keys in the cache, and get W_c."""
    from llmtool.conversion.uniattn import Calibration, convert_uniattn

    report = convert_uniattn(
        checkpoint, output, groups=groups, followers=followers, plan_file=plan,
        calibration=Calibration(calibration or [], samples, window, tokenizer), init=init, rank=rank, ridge=ridge,
        sharing=sharing, seed=seed, device=device, dry_run=dry_run, force=force,
        console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(json.dumps(report))


@app.command("merge-lora")
def merge_lora(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add the adapters of `posttrain --lora` to the weights."""
    from llmtool.conversion.lora import merge_lora as run

    report = run(checkpoint, output, force=force, console=options.console(quiet, verbose=False))
    if as_json:
        print(json.dumps(report))
