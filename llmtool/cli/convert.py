"""`llmtool convert`: checkpoints inspected, copied and rewritten."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group

app = Group("Checkpoints: inspect, copy, convert.")


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
    from llmtool.commands.convert import inspect
    from llmtool.core.checkpoint.directory import open_checkpoint

    facts = inspect.describe(open_checkpoint(checkpoint), context)
    for problem in facts["problems"]:
        options.console(quiet=False, verbose=False).warn(f"{checkpoint}: {problem}")
    print(json.dumps(facts) if as_json else "\n".join(inspect.lines(facts)))


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
    from llmtool.commands.convert.copy import copy_checkpoint
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
    set_: options.Set = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checkpoint that stock transformers loads with trust_remote_code=True where llmtool is not installed."""
    from llmtool.commands.convert.export import export_model

    console = options.console(quiet, verbose=False)
    given = options.settings(set_)
    report = export_model(checkpoint, output, dtype=dtype, settings=given, force=force, console=console)
    if as_json:
        print(json.dumps(report))


@app.command("dsmoe")
def dsmoe(
    checkpoint: options.Checkpoint,
    output: Annotated[
        Path | None, typer.Argument(help="Directory to make. Default: CKPT-dsmoe.", metavar="[OUT]")
    ] = None,
    experts: Annotated[int, typer.Option("--experts", min=2, help="Blocks of a feed-forward layer.", metavar="N")] = 8,
    router_init: Annotated[
        Literal["exact", "paper", "analytic"],
        typer.Option("--router-init", help="exact: the dense model bit for bit; analytic: fitted to --calibration."),
    ] = "exact",
    calibration: Annotated[
        list[str] | None,
        typer.Option("--calibration", help="Text for analytic routers; again for more.", metavar="TEXT"),
    ] = None,
    calibration_tokens: Annotated[
        int, typer.Option("--calibration-tokens", min=64, help="Tokens of it to look at.", metavar="N")
    ] = 8192,
    share: Annotated[
        float, typer.Option("--share", help="Active blocks that analytic routers aim at, and the plan counts.")
    ] = 0.375,
    tau: Annotated[float, typer.Option("--tau", help="Gates above it are on; can be changed at run time.")] = 0.5,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Layers to convert: 4-20, or 0,3,8-11. Default: all.", metavar="A-B")
    ] = None,
    seed: options.Seed = 0,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Cut the feed-forward layers of a dense checkpoint into experts that a router switches (DSMoE)."""
    from llmtool.commands.convert.dsmoe import convert_dsmoe

    report = convert_dsmoe(
        checkpoint, output, experts=experts, router_init=router_init, calibration=calibration or [],
        calibration_tokens=calibration_tokens, share=share, tau=tau, layers=layers, seed=seed, dry_run=dry_run,
        force=force, console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(json.dumps(report))


@app.command("dsmoe-baseline")
def dsmoe_baseline(
    kind: Annotated[
        Literal["topk", "channels", "2:4"],
        typer.Argument(
            help="LLaMA-MoE's top k, whole channels pruned, or two of four weights (Wanda).", metavar="KIND"
        ),
    ],
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    experts: Annotated[int, typer.Option("--experts", min=2, help="Blocks of a layer (topk).", metavar="N")] = 8,
    share: Annotated[float, typer.Option("--share", help="Active share of the feed-forward weights.")] = 0.375,
    calibration: Annotated[
        list[str] | None, typer.Option("--calibration", help="Text to prune by; again for more.", metavar="TEXT")
    ] = None,
    calibration_tokens: Annotated[
        int, typer.Option("--calibration-tokens", min=64, help="Tokens of it to look at.", metavar="N")
    ] = 8192,
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Make what DSMoE is compared with, at the same share of active weights."""
    from llmtool.commands.convert.dsmoe_baseline import convert_baseline

    report = convert_baseline(
        kind, checkpoint, output, experts=experts, share=share, calibration=calibration or [],
        calibration_tokens=calibration_tokens, seed=seed, force=force, console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(json.dumps(report))


@app.command("dense")
def dense(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Merge the experts of a DSMoE checkpoint back into dense layers; refused where a gate depends on the token."""
    from llmtool.commands.convert.dsmoe import convert_dense

    report = convert_dense(checkpoint, output, force=force, console=options.console(quiet, verbose=False))
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
    from llmtool.commands.convert.uniattn import Calibration, convert_uniattn

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
    from llmtool.commands.convert.lora import merge_lora as run

    report = run(checkpoint, output, force=force, console=options.console(quiet, verbose=False))
    if as_json:
        print(json.dumps(report))
