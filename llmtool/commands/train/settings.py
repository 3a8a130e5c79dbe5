"""The settings of `llmtool train`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from llmtool.commands.options import (
    BinDtype,
    Device,
    DryRun,
    EvalEvery,
    Force,
    Kernels,
    Only,
    Precision,
    SaveDtype,
    SaveEvery,
    Schedule,
    Seed,
)
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings
from llmtool.core.train.schedules import Schedule as RateSchedule

Parallel = Literal["auto", "none", "ddp", "fsdp"]


class Running(Settings):
    """What the loop reads of a command's settings; each command declares them with defaults of its own."""

    dtype: Literal["fp32", "bf16"]
    save_dtype: Literal["bf16", "fp16", "fp32"] | None
    parallel: Parallel
    recompute: bool
    compiled: bool
    keep: int
    seed: int
    force: bool


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Running):
    """How a model is trained; the command line shows the options in this order.

    Where `matters` is False though the result changes, run.json holds what the option comes to: tokens and epochs come
    to steps, overrides to the architecture, valid to the held-out sets' hashes.
    """

    model: Annotated[
        str | None,
        Option("A size (3M), a config.json, or a checkpoint. Default: 1M, or 128 for each token of the vocabulary.",
               "--model -m", metavar="MODEL"),
    ] = None  # fmt: skip
    tokenizer: Annotated[
        str | None,
        Option(
            "For text; goes along with the model. Default: the checkpoint's, or tokenizer.json.",
            metavar="TOK",
            matters=False,
        ),
    ] = None
    bin_dtype: BinDtype = None
    length: Annotated[
        int | None, Option("Tokens in a row. Default: 256, or the checkpoint's, 2048 at most.", min=1)
    ] = None
    batch: Annotated[str | int, Option("Tokens in a step: 8K, 0.5M.", metavar="TOKENS")] = 8192
    micro: Annotated[int | None, Option("Rows in a forward pass; gradients add up to a batch.", min=1)] = None
    tokens: Annotated[
        str | int | None, Option("Tokens to train on. Default: one epoch.", metavar="TOKENS", matters=False)
    ] = None
    steps: Annotated[int | None, Option("Updates, instead of --tokens.", min=1)] = None
    epochs: Annotated[float | None, Option("Epochs, instead of --tokens.", min=0, matters=False)] = None
    optimizer: Annotated[Literal["adamw", "muon"], Option("Muon: for the matrices.")] = "adamw"
    lr: Annotated[
        float | None, Option("Peak rate. Default: by the model's size; for a checkpoint 2e-5 at 1B, more if smaller.")
    ] = None
    muon_lr: Annotated[float | None, Option("Peak rate of Muon's matrices; else --lr.")] = None
    weight_decay: Annotated[
        float | None, Option("Of matrices; vectors have none. Default: 0.1, for a checkpoint 0.")
    ] = None
    beta1: Annotated[float, Option("AdamW's first momentum.")] = 0.9
    beta2: Annotated[float, Option("AdamW's second momentum.")] = 0.95
    clip: Annotated[float, Option("Largest norm of the gradient; 0 for any.", min=0)] = 1.0
    schedule: Schedule = "cosine"
    warmup: Annotated[
        int | None, Option("Steps of warm-up. Default: a tenth, 200 at most, for a checkpoint 10 at least.", min=0)
    ] = None
    final_lr: Annotated[float, Option("Last rate, a share of the peak.", min=0, max=1)] = 0.1
    decay: Annotated[float, Option("Share of the steps in which wsd goes down.", max=1)] = RateSchedule.decay
    mask_documents: Annotated[bool, Option("No token sees another document of its row.", "--mask-documents")] = False
    valid: Annotated[
        Sequence[str],
        Option("Held-out text or tokens, [NAME=]PATH; may be given again.", metavar="DATA", matters=False),
    ] = ()
    holdout: Annotated[float, Option("Hold out the last share of each source.", min=0, max=0.99)] = 0.0
    eval_every: EvalEvery = None
    eval_tokens: Annotated[
        str | int | None,
        Option("Tokens of each held-out set, at most. Default: 32K, less in a short run.", metavar="TOKENS"),
    ] = None
    save_every: SaveEvery = None
    keep: Annotated[int, Option("States to keep.", min=1, matters=False)] = 2
    max_loss_jump: Annotated[
        float | None, Option("Stop if the loss is so far above its mean, in nats.", min=0, metavar="X")
    ] = None
    set: Annotated[Sequence[str], Option("A setting of a method's objective.", metavar="METHOD.KEY=VALUE")] = ()
    only: Only = ()
    overrides: Annotated[
        Sequence[str], Option("A field of config.json.", "--override", metavar="KEY=VALUE", matters=False)
    ] = ()
    dtype: Precision = "fp32"
    save_dtype: SaveDtype = None
    device: Device = "auto"
    parallel: Annotated[
        Parallel,
        Option("Several processes (torchrun): whole in each, or cut over them; auto is ddp.", matters=False),
    ] = "auto"
    kernels: Kernels = "auto"
    recompute: Annotated[bool, Option("Activation checkpointing: less memory, a third more time.", "--recompute")] = (
        False
    )
    compiled: Annotated[bool, Option("torch.compile the step.", "--compile")] = False
    seed: Seed = 0
    threads: Annotated[int | None, Option("Threads of torch.", min=1, metavar="N", matters=False)] = None
    tensorboard: Annotated[Path | None, Option("Write events there too.", metavar="DIR", matters=False)] = None
    force: Force = False
    dry_run: DryRun = False
