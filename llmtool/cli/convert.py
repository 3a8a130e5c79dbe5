"""`llmtool convert`: checkpoints inspected, copied and rewritten."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.commands.convert.settings import BaselineSettings, DsmoeSettings, RotarySettings, UniattnSettings
from llmtool.commands.convert.upcycle_settings import CartesianSettings, FinedeepSettings, MaskSettings, TopKSettings
from llmtool.commands.options import method_settings
from llmtool.core.run.json_file import dumps

app = Group("Checkpoints: inspect, copy, convert.")


@app.command("inspect")
def inspect(
    checkpoint: options.Checkpoint,
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Positions that a token attends to. Default: 4096.", metavar="N"),
    ] = None,
    override: options.Override = (),
    as_json: options.Json = False,
) -> None:
    """Parameters, bytes, FLOPs and KV bytes a token, by layer; reads headers and config.json only."""
    from llmtool.commands.convert import inspect
    from llmtool.core.checkpoint.directory import open_checkpoint

    facts = inspect.describe(open_checkpoint(checkpoint, override), context)
    for problem in facts["problems"]:
        options.console(quiet=False, verbose=False).warn(f"{checkpoint}: {problem}")
    print(dumps(facts) if as_json else "\n".join(inspect.lines(facts)))


@app.command("copy")
def copy(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: options.Dtype = None,
    max_shard_size: options.MaxShardSize = "5GB",
    override: options.Override = (),
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
        override=override, console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(dumps(report))


@app.command("export")
def export(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: options.Dtype = None,
    set_: options.Set = (),
    override: options.Override = (),
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checkpoint that stock transformers loads with trust_remote_code=True where llmtool is not installed."""
    from llmtool.commands.convert.export import export_model

    console = options.console(quiet, verbose=False)
    given = method_settings(set_)
    report = export_model(
        checkpoint, output, dtype=dtype, settings=given, changed=override, force=force, console=console
    )
    if as_json:
        print(dumps(report))


@app.command("dsmoe")
def dsmoe(
    checkpoint: options.Checkpoint,
    output: Annotated[
        Path | None, typer.Argument(help="Directory to make. Default: CKPT-dsmoe.", metavar="[OUT]")
    ] = None,
    *,
    settings: DsmoeSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Cut the feed-forward layers of a dense checkpoint into experts that a router switches (DSMoE)."""
    from llmtool.commands.convert.dsmoe import convert_dsmoe

    report = convert_dsmoe(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


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
    settings: BaselineSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Make what DSMoE is compared with, at the same share of active weights."""
    from llmtool.commands.convert.dsmoe_baseline import convert_baseline

    report = convert_baseline(kind, checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


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
        print(dumps(report))


@app.command("uniattn")
def uniattn(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    settings: UniattnSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Let layers share a softmax: followers lose q_proj, k_proj and their keys in the cache, and get W_c."""
    from llmtool.commands.convert.uniattn import convert_uniattn

    report = convert_uniattn(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("rope")
def rope(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    settings: RotarySettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Give a checkpoint rotary frequencies for a longer context: HARPE and its rivals. Train it afterwards."""
    from llmtool.commands.convert.rope import convert_rope

    report = convert_rope(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("gguf")
def gguf(
    file: Annotated[Path, typer.Argument(help="GGUF file: llama, qwen2, qwen3 or gemma3.", metavar="FILE")],
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], typer.Option("--dtype", help="Element type of the weights.")
    ] = "bf16",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a GGUF file: weights dequantised, config.json and the tokenizer made again. Wants the extra gguf."""
    from llmtool.commands.convert.gguf import convert_gguf

    report = convert_gguf(file, output, dtype=dtype, force=force, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("topk")
def topk(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    settings: TopKSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Upcycle feed-forward layers to routed copies, as a Mixtral or a Qwen3-MoE that stock programs load."""
    from llmtool.commands.convert.upcycle import convert_topk

    report = convert_topk(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("cartesian")
def cartesian(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    settings: CartesianSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Upcycle feed-forward layers to two routed sub-layers that compute the same (CartesianMoE)."""
    from llmtool.commands.convert.upcycle import convert_cartesian

    report = convert_cartesian(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("mask")
def mask(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    table: Annotated[Path, typer.Option("--table", help="What `data token-experts` wrote.", metavar="FILE")],
    settings: MaskSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Upcycle feed-forward layers to copies that token ids choose among by a table (MaskMoE)."""
    from llmtool.commands.convert.upcycle import convert_mask

    report = convert_mask(checkpoint, output, table, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("finedeep")
def finedeep(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    settings: FinedeepSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Cut feed-forward layers into experts that all run, gated by their own outputs (Finedeep)."""
    from llmtool.commands.convert.upcycle import convert_finedeep

    report = convert_finedeep(checkpoint, output, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))


@app.command("merge-lora")
def merge_lora(
    checkpoint: options.Checkpoint,
    output: Annotated[Path, typer.Argument(help="Directory to make.", metavar="OUT")],
    dtype: options.Dtype = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add the adapters of `posttrain --lora` to the weights."""
    from llmtool.commands.convert.lora import merge_lora as run

    report = run(checkpoint, output, dtype=dtype, force=force, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))
