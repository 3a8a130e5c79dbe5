"""The settings of the commands of `llmtool convert`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from llmtool.commands.options import Device, DryRun, Dtype, Force, Override, Seed, Set, TorchThreads
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

Sharing = Literal["uniattn", "softmax-only", "cla"]
Tokens = Annotated[int, Option("Tokens of it to look at.", min=64, metavar="N")]
CALIBRATION_TOKENS = 24_576
"""A third of them costs SmolLM2 0.04 to 0.13 nats more (docs/results/real_model)."""


@dataclass(frozen=True, kw_only=True)
class DsmoeSettings(Settings):
    """How feed-forward layers are cut into experts."""

    experts: Annotated[int, Option("Blocks of a feed-forward layer.", min=2, metavar="N")] = 8
    router_init: Annotated[
        Literal["exact", "paper", "ridge", "analytic"] | None,
        Option("exact: the dense model; ridge, analytic: fitted to --calibration. Default: ridge with it, else exact."),
    ] = None
    partition: Annotated[
        Literal["importance", "contiguous"] | None,
        Option("Channels sorted before the cut, or not (the paper's). Default: importance with ridge."),
    ] = None
    form: Annotated[
        Literal["unit", "paper"] | None,
        Option("An open block counts 1, or g n / #active (the paper's). Default: unit with ridge."),
    ] = None
    always_on: Annotated[
        int | None,
        Option("First blocks that are always on (ridge). Default: a quarter from 16 blocks on, else 0.", min=0,
               metavar="Q"),
    ] = None  # fmt: skip
    off_mean: Annotated[bool, Option("A closed block adds its mean output (unit form).")] = False
    refit: Annotated[
        bool, Option("Fit down_proj anew to the open blocks; all open, it is the dense model no more.")
    ] = False
    calibration: Annotated[Sequence[str], Option("Text to fit to; again for more.", metavar="TEXT")] = ()
    calibration_tokens: Tokens = CALIBRATION_TOKENS
    share: Annotated[
        float | None,
        Option("Active blocks that routers are fitted to, and the plan counts. Default: 0.75 (ridge) or 0.375."),
    ] = None
    tau: Annotated[float, Option("Gates above it are on; can be changed at run time.")] = 0.5
    layers: Annotated[str | None, Option("Layers to convert: 4-20, or 0,3,8-11. Default: all.", metavar="A-B")] = None
    override: Override = ()
    seed: Seed = 0
    threads: TorchThreads = None
    dry_run: DryRun = False
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Settings):
    """How what DSMoE is compared with is made."""

    experts: Annotated[int, Option("Blocks of a layer (topk, static).", min=2, metavar="N")] = 8
    share: Annotated[float, Option("Active share of the feed-forward weights.")] = 0.375
    off_mean: Annotated[bool, Option("As in `convert dsmoe` (static).")] = False
    refit: Annotated[bool, Option("As in `convert dsmoe` (static).")] = False
    calibration: Annotated[Sequence[str], Option("Text to prune by; again for more.", metavar="TEXT")] = ()
    calibration_tokens: Tokens = CALIBRATION_TOKENS
    seed: Seed = 0
    threads: TorchThreads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class UniattnSettings(Settings):
    """Which layers share a softmax, and how W_c is found."""

    groups: Annotated[
        str | None, Option("Groups of G layers from layer B up to E, from 0: 4:16:33.", metavar="G:B:E")
    ] = None
    followers: Annotated[
        str | None,
        Option("Layers that follow the one before their run, 17,18,19; or none.", metavar="LIST"),
    ] = None
    plan: Annotated[Path | None, Option("Groups that `eval attention` found.", metavar="FILE")] = None
    calibration: Annotated[Sequence[str], Option("Text to find W_c on; may be given again.", metavar="TEXT")] = ()
    heads: Annotated[
        str | None,
        Option("matched: the best head on the text; identity (the paper's); a plan.json. Default: matched where there "
               "is text, else the plan's.", metavar="MAP"),
    ] = None  # fmt: skip
    leaders: Annotated[
        Literal["group", "earlier", "any"],
        Option("Whose heads are matched: the group's leader's, all earlier leaders', any earlier softmax's."),
    ] = "group"
    match: Annotated[
        Literal["error", "similarity"], Option("Heads matched by what they do to the output, or by their maps.")
    ] = "error"
    refit: Annotated[bool, Option("Fit the followers' o_proj anew, with W_c.")] = False
    init: Annotated[
        Literal["lstsq", "paper", "zero"],
        Option("W_c by least squares over tokens, over positions (the paper's), or zero."),
    ] = "lstsq"
    rank: Annotated[int | None, Option("Rank of W_c; full if not given.", min=1)] = None
    ridge: Annotated[float | None, Option("Ridge of lstsq, times trace(G)/d; else chosen on held-out rows.", min=0)] = (
        None
    )
    sharing: Annotated[Sharing, Option("For comparison: no W_c, or keys and values shared at the same saving.")] = (
        "uniattn"
    )
    samples: Annotated[int, Option("Rows of calibration text.", min=1, metavar="N")] = 128
    window: Annotated[int | None, Option("Tokens in a row; else 1024 or the model's limit.", min=2, metavar="N")] = None
    tokenizer: Annotated[Path | None, Option("Tokenizer, if the checkpoint has none.", metavar="DIR")] = None
    override: Override = ()
    seed: Seed = 0
    device: Device = "auto"
    threads: TorchThreads = None
    force: Force = False
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class RotarySettings(Settings):
    """Which rotary frequencies, and what is scored before and after."""

    method: Annotated[
        Literal["harpe", "abf", "pi", "yarn", "ntk"],
        Option("A base for each head (HARPE), or one set of frequencies for all."),
    ] = "harpe"
    target: Annotated[str | int, Option("Positions to extend to: 131072, 128Ki.", metavar="N")] = 131072
    bases: Annotated[
        str | None,
        Option("paper, uniform, search, or a JSON file. Default: paper with 32 heads, else uniform.", metavar="BASES"),
    ] = None
    range_: Annotated[
        str | None, Option("Ends of the bases. Default: 1M:5M times TARGET / 128K.", metavar="LOW:HIGH")
    ] = None
    base: Annotated[float | None, Option("The base of abf. Default: 5M times TARGET / 128K.")] = None
    check: Annotated[
        Sequence[str], Option("Text to score before and after; may be given again.", metavar="TEXT", matters=False)
    ] = ()
    check_length: Annotated[int, Option("Tokens of the long rows of --check.", min=2, metavar="N", matters=False)] = (
        8192
    )
    check_tokens: Annotated[
        str | int,
        Option("Tokens of each text that --check scores, short and long; a row at least.", metavar="N", matters=False),
    ] = 16_384
    override: Override = ()
    device: Device = "auto"
    threads: TorchThreads = None
    force: Force = False
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class InspectSettings(Settings):
    """At which context a checkpoint is looked at."""

    context: Annotated[int | None, Option("Positions that a token attends to. Default: 4096.", min=1, metavar="N")] = (
        None
    )
    override: Override = ()


@dataclass(frozen=True, kw_only=True)
class CopySettings(Settings):
    """As what a checkpoint is written again."""

    dtype: Dtype = None
    max_shard_size: Annotated[str | int, Option("Data in one file: 5GB, 512MiB.", metavar="SIZE")] = "5GB"
    override: Override = ()
    force: Force = False
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """As what a checkpoint is handed on."""

    dtype: Dtype = None
    set: Set = ()
    override: Override = ()
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class GgufSettings(Settings):
    """As what a GGUF file is written."""

    dtype: Annotated[Literal["bf16", "fp16", "fp32"], Option("Element type of the weights.")] = "bf16"
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class VocabSettings(Settings):
    """For which tokenizer, and what the rows of its new tokens are."""

    tokenizer: Annotated[str, Option("The new tokenizer: what `tokenizer extend` or `trim` wrote.", metavar="TOK")]
    old_tokenizer: Annotated[str | None, Option("The old one. Default: the checkpoint's.", metavar="TOK")] = None
    init: Annotated[
        Literal["pieces", "mean", "zero", "distil"],
        Option("Mean of the old pieces' rows, mean of all, zero; distil: pieces, then learned from --corpus."),
    ] = "pieces"
    multiple: Annotated[int, Option("Rows are rounded up to a multiple.", min=1, metavar="N")] = 1
    corpus: Annotated[Sequence[str], Option("Text for distil; may be given again.", metavar="TEXT")] = ()
    snippets: Annotated[int, Option("distil: places of a new token that are looked at.", min=1, metavar="N")] = 100
    length: Annotated[int, Option("distil: tokens around them.", min=4, metavar="N")] = 50
    rows: Annotated[int, Option("distil: rows of text at most.", min=1, metavar="N")] = 20_000
    batch: Annotated[int, Option("distil: rows of a step.", min=1, metavar="N")] = 16
    lr: Annotated[float, Option("distil: peak learning rate.", min=0)] = 1e-4
    check: Annotated[
        Sequence[str], Option("Text to compare old and new on; again for more.", metavar="TEXT", matters=False)
    ] = ()
    check_bytes: Annotated[str | int, Option("Bytes of each --check text.", metavar="SIZE", matters=False)] = "64K"
    override: Override = ()
    seed: Seed = 0
    device: Device = "auto"
    threads: TorchThreads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class MergeSettings(Settings):
    """As what merged weights are written: by default as they are stored."""

    dtype: Dtype = None
    force: Force = False
