"""`llmtool convert`: checkpoints inspected, copied and rewritten."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Choice, Only
from llmtool.commands.convert import settings as of
from llmtool.commands.convert import upcycle_settings as upcycling
from llmtool.commands.options import Replacing
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.json_file import dumps
from llmtool.core.run.settings import Settings

app = Group("Checkpoints: inspect, copy, convert.")


def rewriting(verb: str, kind: type[Settings], summary: str, *reads: Any) -> None:
    """Add `llmtool convert VERB CKPT [OUT]` with the options of `kind`; reads: with those of text."""
    out = Annotated[Path | None, options.made(f"CKPT-{verb.replace('merge-lora', 'merged')}")]

    def command(
        checkpoint: options.Checkpoint,
        output: out = None,
        *,
        settings: kind,  # type: ignore[valid-type]
        reading: reads[0] if reads else Annotated[Reading, Only("")],  # type: ignore[valid-type]
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        text = {"reading": reading} if reads else {}
        run(verb, checkpoint, output, settings, as_json=as_json, quiet=quiet, **text)

    command.__doc__ = summary
    app.command(verb)(command)


def run(verb: str, *given: Any, as_json: bool, quiet: bool, **text: Any) -> None:
    """Do what llmtool.convert does by that name, and print its report if asked for."""
    from llmtool.commands.convert import verbs

    report = getattr(verbs, verb.replace("-", "_"))(*given, console=options.console(quiet, verbose=False), **text)
    if as_json:
        print(dumps(report))


@app.command("inspect")
def inspect(
    checkpoint: options.Checkpoint,
    settings: of.InspectSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Parameters, bytes, FLOPs and KV bytes a token, by layer; reads headers and config.json only."""
    from llmtool.commands.convert import inspect

    facts = inspect.inspect(checkpoint, settings)
    for problem in facts["problems"]:
        options.console(quiet, verbose=False).warn(f"{checkpoint}: {problem}")
    print(dumps(facts) if as_json else "\n".join(inspect.lines(facts)))


rewriting(
    "copy", of.CopySettings,
    "Write a checkpoint again, in another element type or other shards, one tensor in memory at a time.",
)  # fmt: skip
rewriting(
    "export", of.ExportSettings,
    "Write a checkpoint that stock transformers loads with trust_remote_code=True where llmtool is not installed.",
)  # fmt: skip


@app.command("dsmoe")
def dsmoe(
    checkpoint: options.Checkpoint,
    output: Annotated[Path | None, options.made("CKPT-dsmoe")] = None,
    *,
    settings: of.DsmoeSettings,
    reading: options.Calibration,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Cut the feed-forward layers of a dense checkpoint into experts that a router switches (DSMoE)."""
    run("dsmoe", checkpoint, output, settings, as_json=as_json, quiet=quiet, reading=reading)


@app.command("dsmoe-baseline")
def dsmoe_baseline(
    kind: Annotated[
        Literal["topk", "static", "channels", "2:4"],
        Choice("KIND", "topk: LLaMA-MoE's; static: the same blocks for every token; channels: pruned; 2:4: Wanda's."),
    ],
    checkpoint: options.Checkpoint,
    output: Annotated[Path | None, options.made("CKPT-KIND")] = None,
    *,
    settings: of.BaselineSettings,
    reading: options.Calibration,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make what DSMoE is compared with, at the same share of active weights."""
    run("dsmoe-baseline", kind, checkpoint, output, settings, as_json=as_json, quiet=quiet, reading=reading)


rewriting(
    "dense", Replacing,
    "Merge the experts of a DSMoE checkpoint back into dense layers; refused where a gate depends on the token.",
)  # fmt: skip
rewriting(
    "uniattn", of.UniattnSettings,
    "Let layers share a softmax: followers lose q_proj, k_proj and their keys in the cache, and get W_c.",
    options.Calibration,
)  # fmt: skip
rewriting(
    "rope", of.RotarySettings,
    "Give a checkpoint rotary frequencies for a longer context: HARPE and its rivals. Train it afterwards.",
    Reading,
)  # fmt: skip


@app.command("gguf")
def gguf(
    file: Annotated[Path, typer.Argument(help="GGUF file: llama, qwen2, qwen3 or gemma3.", metavar="FILE")],
    output: Annotated[Path | None, options.made("FILE-checkpoint")] = None,
    *,
    settings: of.GgufSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a GGUF file: weights dequantised, config.json and the tokenizer made again. Wants the extra gguf."""
    run("gguf", file, output, settings, as_json=as_json, quiet=quiet)


rewriting(
    "topk", upcycling.TopKSettings,
    "Upcycle feed-forward layers to routed copies, as a Mixtral or a Qwen3-MoE that stock programs load.",
)  # fmt: skip
rewriting(
    "cartesian", upcycling.CartesianSettings,
    "Upcycle feed-forward layers to two routed sub-layers that compute the same (CartesianMoE).",
)  # fmt: skip


@app.command("mask")
def mask(
    checkpoint: options.Checkpoint,
    output: Annotated[Path | None, options.made("CKPT-mask")] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="What `data token-experts` wrote. Default: mask.safetensors.", metavar="FILE"),
    ] = None,
    *,
    settings: upcycling.MaskSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Upcycle feed-forward layers to copies that token ids choose among by a table (MaskMoE)."""
    run("mask", checkpoint, output, table, settings, as_json=as_json, quiet=quiet)


rewriting(
    "finedeep", upcycling.FinedeepSettings,
    "Cut feed-forward layers into experts that all run, gated by their own outputs (Finedeep).",
)  # fmt: skip
rewriting("merge-lora", of.MergeSettings, "Add the adapters of `posttrain --lora` to the weights.")
rewriting(
    "vocab", of.VocabSettings, "Carry a checkpoint to another vocabulary: kept tokens keep their rows bit for bit.",
    Reading,
)  # fmt: skip
