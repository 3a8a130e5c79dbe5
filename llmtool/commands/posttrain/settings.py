"""The settings of `llmtool posttrain`, each said once; the defaults are UniAttn's (page 5 of the paper).

One epoch, cosine, AdamW, no decay.
"""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from llmtool.commands.options import (
    DataFormat,
    Date,
    Device,
    DropOverlong,
    DryRun,
    EvalEvery,
    Force,
    Ignore,
    Only,
    Packing,
    Precision,
    SaveDtype,
    SaveEvery,
    Schedule,
    Seed,
    Template,
    TorchThreads,
)
from llmtool.commands.train.settings import Parallel, Running
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.settings import Option, Settings

LONGEST = 1024


@dataclass(frozen=True)
class DataOptions:
    """How data is read. tokenizer: a directory, a tokenizer.json, or our own file; the template may lie beside it."""

    tokenizer: Path
    format: str
    template: str | None
    length: int | None
    """Tokens in a row; None: 1,024, or the model's own limit if that is less."""
    drop_overlong: bool
    packing: bool
    ignore: Sequence[str]
    """Fields of rows and turns that are left out."""
    date: str | None
    """The day that a template writes which asks for one, YYYY-MM-DD; None: today."""

    @property
    def now(self) -> str:
        """The first moment of the day, as templates are told the time."""
        try:
            given = self.date or datetime.datetime.now().strftime("%Y-%m-%d")
            day = datetime.date.fromisoformat(given)
        except ValueError:
            raise UserError(f"--date {self.date}: not a day", hint="YYYY-MM-DD") from None
        return f"{day.isoformat()}T00:00:00"

    @property
    def places(self) -> int:
        """Tokens in a row."""
        return self.length or LONGEST

    def within(self, longest: int) -> "DataOptions":
        """With a length that fits a model made for so many tokens; one that was asked for and does not is refused."""
        if self.length is None:
            return replace(self, length=min(LONGEST, longest))
        if self.length > longest:
            what = f"--length {self.length:,}: the model was made for {longest:,} tokens"
            hint = f"--length {longest}, or make it longer first: llmtool convert rope CKPT OUT --target {self.length}"
            raise UserError(what, hint=hint)
        return self

    def describe(self) -> dict[str, Any]:
        """What changes the result, for run.json."""
        return {
            "format": self.format, "template": self.template, "length": self.places,
            "drop_overlong": self.drop_overlong, "packing": self.packing, "ignore": list(self.ignore),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Settings):
    """How data is read, and what of it is printed."""

    tokenizer: Annotated[Path, Option("Tokenizer or checkpoint; its chat template is used.", metavar="TOK")]
    data_format: DataFormat = "auto"
    template: Template = None
    ignore: Ignore = ()
    date: Date = None
    length: Annotated[int, Option("Tokens in a row.", min=2, metavar="N")] = LONGEST
    packing: Packing = True
    drop_overlong: DropOverlong = False
    row: Annotated[int, Option("Which of the kept examples to print.", min=1, metavar="N")] = 1
    seed: Seed = 0

    def reading(self) -> DataOptions:
        """How the data is read."""
        return DataOptions(
            self.tokenizer, self.data_format, self.template, self.length, self.drop_overlong, self.packing,
            self.ignore, self.date,
        )  # fmt: skip


ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraOptions:
    """Adapters of this rank, their product times alpha / rank, on these linear maps."""

    rank: int
    alpha: float | None = None
    targets: Sequence[str] = ADAPTED

    def entry(self) -> dict[str, Any]:
        """The method's object in config.json."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return {"name": "lora", "version": 1, "rank": self.rank, "alpha": alpha, "targets": list(self.targets)}


@dataclass(frozen=True, kw_only=True)
class SftSettings(Running):
    """How a checkpoint is trained on instruction data; the command line shows the options in this order.

    Where `matters` is False though the result changes, run.json holds what the option comes to: epochs come to steps,
    valid and the tokenizer to the data's hashes.
    """

    valid: Annotated[Sequence[str], Option("Held-out data; may be given again.", metavar="DATA", matters=False)] = ()
    format: DataFormat = "auto"
    template: Template = None
    ignore: Ignore = ()
    date: Date = None
    tokenizer: Annotated[
        Path | None, Option("Tokenizer and template, if not the checkpoint's.", metavar="TOK", matters=False)
    ] = None
    length: Annotated[
        int | None, Option("Tokens in a row. Default: 1024, or the model's if less.", min=2, metavar="N")
    ] = None
    packing: Packing = True
    drop_overlong: DropOverlong = False
    batch: Annotated[str | int, Option("Tokens in a step, padding included.", metavar="TOKENS")] = 49152
    micro: Annotated[int | None, Option("Rows in a forward pass.", min=1, metavar="N")] = None
    epochs: Annotated[float, Option("Times through the data.", min=0, metavar="N", matters=False)] = 1.0
    steps: Annotated[int | None, Option("Updates, instead of --epochs.", min=1, metavar="N")] = None
    lr: Annotated[float, Option("Peak rate.")] = 2e-5
    warmup: Annotated[float, Option("Share of the steps that the rate rises in.", min=0, max=1, metavar="SHARE")] = 0.03
    weight_decay: Annotated[float, Option("Of matrices.", min=0)] = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0
    schedule: Schedule = "cosine"
    final_lr: float = 0.0
    lora: Annotated[int | None, Option("Train adapters of this rank.", min=1, metavar="RANK")] = None
    lora_alpha: Annotated[float | None, Option("Adapters count alpha / rank. Default: twice the rank.")] = None
    lora_targets: Annotated[str | None, Option("Linear maps with adapters. Default: all.", metavar="NAME,NAME")] = None
    eval_every: EvalEvery = None
    save_every: SaveEvery = None
    keep: Annotated[int, Option("States to keep.", min=1, matters=False, shown=False)] = 2
    max_loss_jump: float | None = None
    set: Annotated[
        Sequence[str],
        Option("A setting of a method: dsmoe.target-share=0.4. Again for more.", metavar="METHOD.KEY=VALUE"),
    ] = ()
    only: Only = ()
    dtype: Precision = "fp32"
    save_dtype: SaveDtype = None
    device: Device = "auto"
    parallel: Annotated[Parallel, Option("Several processes, by torchrun.", matters=False)] = "auto"
    recompute: Annotated[bool, Option("Activation checkpointing.", "--recompute")] = False
    compiled: Annotated[bool, Option("torch.compile the step.", "--compile")] = False
    seed: Seed = 0
    threads: TorchThreads = None
    force: Force = False
    dry_run: DryRun = False

    def reading(self, model: Path, day: str | None = None) -> DataOptions:
        """How the data is read, by default with the tokenizer and the template of the model. day: of a run begun."""
        return DataOptions(
            self.tokenizer or model, self.format, self.template, self.length, self.drop_overlong, self.packing,
            self.ignore, self.date or day,
        )  # fmt: skip

    def adapters(self) -> LoraOptions | None:
        """What --lora asks for; None without it."""
        if self.lora is not None:
            targets = tuple(self.lora_targets.split(",")) if self.lora_targets else ADAPTED
            return LoraOptions(self.lora, self.lora_alpha, targets)
        if self.lora_alpha is not None or self.lora_targets is not None:
            raise UserError("--lora-alpha and --lora-targets say how --lora is done", hint="give --lora RANK")
        return None


@dataclass(frozen=True, kw_only=True)
class UniattnSettings(SftSettings):
    """The same, with a first stage that trains the compensations alone; its rates and lengths default to stage 2's."""

    first_epochs: Annotated[
        float | None,
        Option(
            "Of stage 1; 0 leaves it out. Default: --epochs.", "--stage1-epochs", "N", 0, matters=False, after="steps"
        ),
    ] = None
    first_steps: Annotated[
        int | None,
        Option("Of stage 1. Default: --steps.", "--stage1-steps", "N", 1, matters=False, after="first_epochs"),
    ] = None
    first_lr: Annotated[
        float | None, Option("Of stage 1. Default: --lr.", "--stage1-lr", matters=False, after="lr")
    ] = None

    def first_stage(self) -> "UniattnSettings":
        """Those of stage 1."""
        return replace(
            self, epochs=self.epochs if self.first_epochs is None else self.first_epochs, lr=self.first_lr or self.lr,
            steps=self.first_steps or (self.steps if self.first_epochs is None else None),
        )  # fmt: skip
