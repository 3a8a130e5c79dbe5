"""The settings of `llmtool eval`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from llmtool.commands.options import (
    BinDtype,
    Device,
    DryRun,
    Dtype,
    Force,
    MeasuringThreads,
    Plot,
    Seed,
    Set,
    TorchThreads,
)
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

Task = Literal["single", "multikey", "multivalue", "multiquery", "tracking", "common", "qa"]
Tokenizer = Annotated[str | None, Option("For text. Default: the checkpoint's.", metavar="TOK")]


@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings):
    """How much of each source is scored, in what rows."""

    tokenizer: Tokenizer = None
    length: Annotated[int | None, Option("Tokens in a row. Default: the model's, 2048 at most.", min=1)] = None
    tokens: Annotated[str | int, Option("Tokens of each source, at most.", metavar="TOKENS")] = "1M"
    mask_documents: Annotated[bool, Option("No token sees another document of its row.", "--mask-documents")] = False
    against: Annotated[
        str | None,
        Option("Another checkpoint with its own tokenizer: bits a byte of both over the same bytes.", metavar="CKPT"),
    ] = None
    bytes: Annotated[str | int, Option("With --against: bytes of each source, at most.", metavar="SIZE")] = "256K"
    bin_dtype: BinDtype = None
    set: Set = ()
    dtype: Dtype = None
    device: Device = "auto"
    threads: Annotated[
        int | None, Option("Threads that tokenise and compute; what is free if not given.", min=1, matters=False)
    ] = None
    plot: Plot = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class RulerSettings(Settings):
    """What is asked, and of what."""

    tokenizer: Annotated[str | None, Option("For words. Default: the checkpoint's.", metavar="TOK")] = None
    task: Annotated[
        Sequence[Task], Option(f"{', '.join(get_args(Task))}; may be given again. Default: all.", metavar="TASK")
    ] = ()
    length: Annotated[
        Sequence[int], Option("Context; may be given again. Default: quarters of the model's.", min=16)
    ] = ()
    depth: Annotated[
        Sequence[float],
        Option("Place of what is asked for; may be given again. Default: 0, 0.5, 1.", min=0, max=1),
    ] = ()
    samples: Annotated[int, Option("Questions in each cell.", min=1)] = 8
    kind: Annotated[
        Literal["auto", "words", "ids"],
        Option("Words of the tokenizer, or an id a word; auto: words where there is a tokenizer."),
    ] = "auto"
    bin_dtype: BinDtype = None
    seed: Seed = 0
    dtype: Dtype = None
    device: Device = "auto"
    threads: MeasuringThreads = None
    plot: Plot = None
    force: Force = False
    dry_run: DryRun = False
    set: Set = ()


@dataclass(frozen=True, kw_only=True)
class NiahSettings(Settings):
    """Where needles are hidden, and what they are."""

    tokenizer: Tokenizer = None
    length: Annotated[
        Sequence[int], Option("Context; may be given again. Default: quarters of the model's.", min=2)
    ] = ()
    depth: Annotated[
        Sequence[float],
        Option("Place of the needle; may be given again. Default: 0 to 1 in quarters.", min=0, max=1),
    ] = ()
    samples: Annotated[int, Option("Needles in each cell.", min=1)] = 16
    kind: Annotated[
        Literal["auto", "words", "ids"],
        Option("Needles of words or of random ids; auto: words where --data is given."),
    ] = "auto"
    key: Annotated[int, Option("Ids of a key, with --kind ids.", min=1)] = 4
    value: Annotated[int, Option("Ids of a value, with --kind ids.", min=1)] = 4
    bin_dtype: BinDtype = None
    seed: Seed = 0
    set: Set = ()
    dtype: Dtype = None
    device: Device = "auto"
    threads: MeasuringThreads = None
    plot: Plot = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class AttentionSettings(Settings):
    """What is looked at, and what the plan is to save."""

    kv_saving: Annotated[str, Option("Share of the cache that the plan saves.", metavar="SHARE")] = "25%"
    plan_by: Annotated[
        Literal["head-by-head", "similarity", "error"],
        Option("Groups by likeness of maps, head by head or as --heads has it, or by what sharing does to the stream."),
    ] = "head-by-head"
    measure: Annotated[Literal["cosine", "js"], Option("Cosine, or 1 - Jensen-Shannon divergence / ln 2.")] = "cosine"
    heads: Annotated[
        Literal["matched", "identity"],
        Option("The plan's map: each head reads the one of the leader that is most like it, or none, head by head."),
    ] = "matched"
    leaders: Annotated[
        Literal["group", "earlier", "any"],
        Option("Whose heads the plan's map reads: the group's leader's, all earlier leaders', any earlier softmax's."),
    ] = "group"
    samples: Annotated[int, Option("Rows of text.", min=1, metavar="N")] = 16
    window: Annotated[int, Option("Tokens in a row.", min=2, metavar="N")] = 256
    tokenizer: Annotated[Path | None, Option("Tokenizer, if the checkpoint has none.", metavar="DIR")] = None
    output: Annotated[
        Path | None, Option("Write the plan for convert uniattn.", "--output -o", metavar="plan.json", matters=False)
    ] = None
    plot: Plot = None
    device: Device = "auto"
    threads: TorchThreads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class ExpertsSettings(Settings):
    """At which thresholds, on how much text."""

    taus: Annotated[str, Option("Thresholds of the curve.", metavar="X,Y,...")] = "0.2,0.3,0.4,0.5,0.6,0.7,0.8"
    dense: Annotated[Path | None, Option("Checkpoint to compare the loss with.", metavar="CKPT")] = None
    tokens: Annotated[int, Option("Tokens of each source.", min=8, metavar="N")] = 4096
    length: Annotated[int, Option("Tokens in a row.", min=8, metavar="N")] = 256
    set: Set = ()
    plot: Plot = None
    dtype: Dtype = None
    device: Device = "auto"
    threads: MeasuringThreads = None
    force: Force = False
