"""`llmtool posttrain`: sft, uniattn."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.core.run.errors import ExitCode

app = Group("Train checkpoints on instruction data.")

Data = Annotated[
    list[str],
    typer.Argument(
        help="messages, sharegpt, alpaca, prompt-completion or text rows; see data check.", metavar="DATA..."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory of the run and the model.", metavar="OUT")]
Valid = Annotated[list[str] | None, typer.Option("--valid", help="Held-out data; may be given again.", metavar="DATA")]
Length = Annotated[
    int | None,
    typer.Option("--length", min=2, help="Tokens in a row. Default: 1024, or the model's if less.", metavar="N"),
]
Batch = Annotated[str, typer.Option("--batch", help="Tokens in a step, padding included.", metavar="TOKENS")]
Micro = Annotated[int | None, typer.Option("--micro", min=1, help="Rows in a forward pass.", metavar="N")]
Epochs = Annotated[float, typer.Option("--epochs", min=0, help="Times through the data.", metavar="N")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Updates, instead of --epochs.", metavar="N")]
Rate = Annotated[float, typer.Option("--lr", help="Peak rate.")]
Warmup = Annotated[float, typer.Option("--warmup", min=0, max=1, help="Share of the steps.")]
Decay = Annotated[float, typer.Option("--weight-decay", min=0, help="Of matrices.")]
Shape = Annotated[
    Literal["cosine", "linear", "wsd", "constant"], typer.Option("--schedule", help="Learning rate over the run.")
]
Lora = Annotated[int | None, typer.Option("--lora", min=1, help="Train adapters of this rank.", metavar="RANK")]
Alpha = Annotated[float | None, typer.Option("--lora-alpha", help="Adapters count alpha / rank. Default: 2.")]
Targets = Annotated[
    str | None, typer.Option("--lora-targets", help="Linear maps with adapters. Default: all.", metavar="NAME,NAME")
]
EvalEvery = Annotated[
    int | None, typer.Option("--eval-every", min=0, help="Steps between evaluations. Default: a twentieth of all.")
]
SaveEvery = Annotated[
    int | None, typer.Option("--save-every", min=0, help="Steps between states. Default: a fifth of all.")
]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option("--dtype", help="bf16: products in bf16, weights in fp32.")]
Parallel = Annotated[
    Literal["auto", "none", "ddp", "fsdp"], typer.Option("--parallel", help="Several processes, by torchrun.")
]
Recompute = Annotated[bool, typer.Option("--recompute", help="Activation checkpointing.")]
Compiled = Annotated[bool, typer.Option("--compile", help="torch.compile the step.")]


@app.command("sft")
def sft(
    checkpoint: options.Checkpoint,
    data: Data,
    output: Output,
    valid: Valid = None,
    data_format: options.DataFormat = "auto",
    template: options.Template = None,
    tokenizer: options.OwnTokenizer = None,
    length: Length = None,
    packing: options.Packing = True,
    drop_overlong: options.DropOverlong = False,
    batch: Batch = "49152",
    micro: Micro = None,
    epochs: Epochs = 1.0,
    steps: Steps = None,
    lr: Rate = 2e-5,
    warmup: Warmup = 0.03,
    weight_decay: Decay = 0.0,
    schedule: Shape = "cosine",
    lora: Lora = None,
    lora_alpha: Alpha = None,
    lora_targets: Targets = None,
    eval_every: EvalEvery = None,
    save_every: SaveEvery = None,
    dtype: Precision = "fp32",
    device: options.Device = "auto",
    parallel: Parallel = "auto",
    recompute: Recompute = False,
    compiled: Compiled = False,
    seed: options.Seed = 0,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Standard supervised fine-tuning: packed rows, answers alone in the loss. The same command resumes."""
    from llmtool.commands import posttrain as posttraining

    report = posttraining.sft(
        checkpoint, data, output, valid=valid or [], lora=posttraining.lora_options(lora, lora_alpha, lora_targets),
        reading=posttraining.DataOptions(
            tokenizer or checkpoint, data_format, template, length, drop_overlong, packing
        ),
        options=posttraining.Options(
            batch=batch, micro=micro, epochs=epochs, steps=steps, lr=lr, warmup=warmup, weight_decay=weight_decay,
            schedule=schedule, eval_every=eval_every, save_every=save_every, dtype=dtype, device=device,
            parallel=parallel, recompute=recompute, compiled=compiled, seed=seed, force=force, dry_run=dry_run,
        ),
        console=options.console(quiet, verbose),
    )  # fmt: skip
    finish(report, as_json or dry_run)


@app.command("uniattn")
def uniattn(
    checkpoint: options.Checkpoint,
    data: Data,
    output: Output,
    valid: Valid = None,
    data_format: options.DataFormat = "auto",
    template: options.Template = None,
    tokenizer: options.OwnTokenizer = None,
    length: Length = None,
    packing: options.Packing = True,
    drop_overlong: options.DropOverlong = False,
    batch: Batch = "49152",
    micro: Micro = None,
    epochs: Epochs = 1.0,
    steps: Steps = None,
    first_epochs: Annotated[
        float | None,
        typer.Option("--stage1-epochs", min=0, help="Of stage 1; 0 leaves it out. Default: --epochs.", metavar="N"),
    ] = None,
    first_steps: Annotated[
        int | None, typer.Option("--stage1-steps", min=1, help="Of stage 1. Default: --steps.", metavar="N")
    ] = None,
    lr: Rate = 2e-5,
    first_lr: Annotated[float | None, typer.Option("--stage1-lr", help="Of stage 1. Default: --lr.")] = None,
    warmup: Warmup = 0.03,
    weight_decay: Decay = 0.0,
    schedule: Shape = "cosine",
    lora: Lora = None,
    lora_alpha: Alpha = None,
    lora_targets: Targets = None,
    eval_every: EvalEvery = None,
    save_every: SaveEvery = None,
    dtype: Precision = "fp32",
    device: options.Device = "auto",
    parallel: Parallel = "auto",
    recompute: Recompute = False,
    compiled: Compiled = False,
    seed: options.Seed = 0,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Post-train what `convert uniattn` made: the compensations alone (OUT.stage1), then everything."""
    from llmtool.commands import posttrain as posttraining

    report = posttraining.uniattn(
        checkpoint, data, output, valid=valid or [], lora=posttraining.lora_options(lora, lora_alpha, lora_targets),
        first_epochs=first_epochs, first_steps=first_steps, first_lr=first_lr,
        reading=posttraining.DataOptions(
            tokenizer or checkpoint, data_format, template, length, drop_overlong, packing
        ),
        options=posttraining.Options(
            batch=batch, micro=micro, epochs=epochs, steps=steps, lr=lr, warmup=warmup, weight_decay=weight_decay,
            schedule=schedule, eval_every=eval_every, save_every=save_every, dtype=dtype, device=device,
            parallel=parallel, recompute=recompute, compiled=compiled, seed=seed, force=force, dry_run=dry_run,
        ),
        console=options.console(quiet, verbose),
    )  # fmt: skip
    finish(report, as_json or dry_run)


def finish(report: dict[str, object], shown: bool) -> None:
    """Print the report if asked for; a run that a signal stopped can go on."""
    if shown:
        print(json.dumps(report, default=str))
    if report.get("stopped"):
        raise typer.Exit(ExitCode.RESUMABLE)
