"""`llmtool train`: one loop, from a laptop to a cluster."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.core.run.errors import ExitCode


def train(
    data: Annotated[
        list[str],
        typer.Argument(help="Tokens (.bin, .npy) or text; several as [NAME=]PATH[@WEIGHT].", metavar="DATA..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the run and the model.", metavar="OUT")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A size (3M), a config.json, or a checkpoint.", metavar="MODEL")
    ] = "1M",
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer", help="For text; goes along with the model. Default: the checkpoint's.", metavar="TOK"
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", min=1, help="Tokens in a row. Default: 256, or the checkpoint's, 2048 at most."),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Tokens in a step: 8K, 0.5M.", metavar="TOKENS")] = "8192",
    micro: Annotated[
        int | None,
        typer.Option("--micro", min=1, help="Rows in a forward pass; gradients add up to a batch."),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", help="Tokens to train on. Default: one epoch.", metavar="TOKENS")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Updates, instead of --tokens.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0, help="Epochs, instead of --tokens.")] = None,
    optimizer: Annotated[
        Literal["adamw", "muon"], typer.Option("--optimizer", help="Muon: for the matrices.")
    ] = "adamw",
    lr: Annotated[float | None, typer.Option("--lr", help="Peak rate. Default: by the model's size.")] = None,
    muon_lr: Annotated[float | None, typer.Option("--muon-lr", help="Peak rate of Muon's matrices; else --lr.")] = None,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices; vectors have none.")] = 0.1,
    beta1: Annotated[float, typer.Option("--beta1", help="AdamW's first momentum.")] = 0.9,
    beta2: Annotated[float, typer.Option("--beta2", help="AdamW's second momentum.")] = 0.95,
    clip: Annotated[float, typer.Option("--clip", min=0, help="Largest norm of the gradient; 0 for any.")] = 1.0,
    schedule: Annotated[
        Literal["cosine", "linear", "wsd", "constant"], typer.Option("--schedule", help="Learning rate over the run.")
    ] = "cosine",
    warmup: Annotated[
        int | None, typer.Option("--warmup", min=0, help="Steps of warm-up. Default: a tenth, 200 at most.")
    ] = None,
    final_lr: Annotated[float, typer.Option("--final-lr", min=0, max=1, help="Last rate, a share of the peak.")] = 0.1,
    decay: Annotated[float, typer.Option("--decay", max=1, help="Share of the steps in which wsd goes down.")] = 0.2,
    mask_documents: Annotated[
        bool, typer.Option("--mask-documents", help="No token sees another document of its row.")
    ] = False,
    valid: Annotated[
        list[str] | None,
        typer.Option("--valid", help="Held-out text or tokens, [NAME=]PATH; may be given again.", metavar="DATA"),
    ] = None,
    holdout: Annotated[
        float, typer.Option("--holdout", min=0, max=0.99, help="Hold out the last share of each source.")
    ] = 0.0,
    eval_every: Annotated[
        int | None, typer.Option("--eval-every", min=0, help="Steps between evaluations. Default: a twentieth of all.")
    ] = None,
    eval_tokens: Annotated[
        str, typer.Option("--eval-tokens", help="Tokens of each held-out set, at most.", metavar="TOKENS")
    ] = "32768",
    save_every: Annotated[
        int | None, typer.Option("--save-every", min=0, help="Steps between states. Default: a fifth of all.")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="States to keep.")] = 2,
    max_loss_jump: Annotated[
        float | None,
        typer.Option("--max-loss-jump", min=0, help="Stop if the loss is so far above its mean, in nats.", metavar="X"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of a method's objective.", metavar="METHOD.KEY=VALUE"),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--override", help="A field of config.json.", metavar="KEY=VALUE")
    ] = None,
    dtype: Annotated[
        Literal["fp32", "bf16"], typer.Option("--dtype", help="bf16: products in bf16, weights in fp32.")
    ] = "fp32",
    device: options.Device = "auto",
    parallel: Annotated[
        Literal["auto", "none", "ddp", "fsdp"],
        typer.Option("--parallel", help="Several processes (torchrun): whole in each, or cut over them; auto is ddp."),
    ] = "auto",
    kernels: options.Kernels = "auto",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Activation checkpointing: less memory, a third more time.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the step.")] = False,
    seed: options.Seed = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch.", metavar="N")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Write events there too.", metavar="DIR")
    ] = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Train a model. The same command goes on where a stopped run was; exit status 4: stopped, and can go on."""
    from llmtool.commands.train import train as run

    report = run(
        data, output, model=model, tokenizer=tokenizer, length=length, batch=batch, micro=micro, tokens=tokens,
        steps=steps, epochs=epochs, optimizer=optimizer, lr=lr, muon_lr=muon_lr, weight_decay=weight_decay,
        beta1=beta1, beta2=beta2, clip=clip, schedule=schedule, warmup=warmup, final_lr=final_lr, decay=decay,
        mask_documents=mask_documents, valid=valid or [], holdout=holdout, eval_every=eval_every,
        eval_tokens=eval_tokens, save_every=save_every, keep=keep, max_loss_jump=max_loss_jump,
        settings=settings or [], overrides=overrides or [], dtype=dtype, device=device, parallel=parallel,
        kernels=kernels, recompute=recompute, compiled=compiled, seed=seed, threads=threads, tensorboard=tensorboard,
        force=force, dry_run=dry_run, console=options.console(quiet, verbose),
    )  # fmt: skip
    if as_json or dry_run:
        print(json.dumps(report, default=str))
    if report.get("stopped"):
        raise typer.Exit(ExitCode.RESUMABLE)
