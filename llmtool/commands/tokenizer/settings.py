"""The settings of the commands of `llmtool tokenizer`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llmtool import catalog
from llmtool.commands.options import DryRun, Force, Plot, TextMode, Threads
from llmtool.core.bpe.settings import ALPHA, RARE, USUAL_LENGTH, USUAL_TIES, TrainingSettings
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

if TYPE_CHECKING:
    Algorithm = str
    Encoding = str
else:
    ALIASES = ("lbpe", "scaffold-lbpe")
    Algorithm = Literal[(*catalog.options(catalog.TRAINING), *ALIASES)]
    Encoding = Literal[tuple(catalog.options(catalog.ENCODING))]

Encoder = Annotated[
    Encoding | None,
    Option("How text is cut; lbpe takes the longest token first. Default: as the file says, merge for a new one."),
]
Length = Annotated[Literal["bytes", "characters"], Option("What the encoder lbpe calls the longest token.")]
Ties = Annotated[Literal["leftmost", "rank"], Option("Which of equally long tokens the encoder lbpe takes.")]
Control = Annotated[
    Sequence[str],
    Option("Text whose bytes a token are shown at each cut-off; again for more.", metavar="TEXT", matters=False),
]
LimitBytes = Annotated[
    str | None, Option("Only the first text of this size, to the end of its document: 500M.", metavar="SIZE")
]
MaxMemory = Annotated[
    str | None,
    Option("Spill counts to disk beyond this: 8G. Default: half of RAM.", metavar="SIZE", matters=False),
]


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerSettings(Settings):
    """How a vocabulary is made; the defaults of training itself are those of core/bpe/settings.py."""

    vocab_size: Annotated[int, Option("Number of tokens; bytes and special tokens count.", metavar="N")] = 32_000
    algorithm: Annotated[Algorithm, Option("How the vocabulary is made; (scaffold-)lbpe also sets --encoder lbpe.")] = (
        "bpe"
    )
    encoder: Encoder = None
    pretokenizer: Annotated[
        Literal[
            "gpt2",
            "cl100k",
            "o200k",
            "llama3",
            "qwen2",
            "smollm",
            "qwen35",
            "tekken",
            "deepseek3",
            "nanochat",
            "kimi",
            "falcon",
            "bloom",
            "none",
        ],
        Option("Published pattern that cuts text into pieces first."),
    ] = TrainingSettings.pretokenizer  # type: ignore[assignment]
    pretokenizer_regex: Annotated[
        Sequence[str], Option("Cut by this pattern instead; repeatable.", metavar="PATTERN")
    ] = TrainingSettings.pretokenizer_regex
    special: Annotated[Sequence[str], Option("Special token; may be given again; '' for none.", metavar="TOKEN")] = (
        "<|endoftext|>",
    )
    special_position: Annotated[Literal["first", "last"], Option("Ids of special tokens.")] = (
        TrainingSettings.special_position  # type: ignore[assignment]
    )
    allow_special: Annotated[
        bool, Option("Cut the corpus at special tokens; else they are learned as plain text.", "--allow-special")
    ] = False
    min_frequency: Annotated[int, Option("Stop when no pair is as frequent.", metavar="K", min=0)] = (
        TrainingSettings.min_frequency
    )
    max_token_bytes: Annotated[int, Option("Merge nothing into a longer token.", metavar="N", min=2)] = (
        TrainingSettings.max_token_bytes
    )
    length: Length = USUAL_LENGTH
    ties: Ties = USUAL_TIES
    curve: Annotated[
        str | None,
        Option(
            "Bytes a token at smaller sizes too, from this one training: 8K,16K,32K.", metavar="SIZES", matters=False
        ),
    ] = None
    curve_text: Annotated[
        Sequence[str],
        Option("Text that --curve is measured on; again for more. Default: the inputs.", metavar="TEXT", matters=False),
    ] = ()
    plot: Plot = None
    limit_bytes: LimitBytes = None
    max_memory: MaxMemory = None
    threads: Threads = None
    force: Force = False
    dry_run: DryRun = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "special", tuple(token for token in self.special if token))
        super().__post_init__()

    def facts(self) -> dict[str, Any]:
        """For run.json; patterns of one's own only where there are some."""
        found = super().facts() | {"special": list(self.special), "pretokenizer_regex": list(self.pretokenizer_regex)}
        return found if self.pretokenizer_regex else {k: v for k, v in found.items() if k != "pretokenizer_regex"}


@dataclass(frozen=True, kw_only=True)
class ExtendSettings(Settings):
    """How many tokens are added, and which may be."""

    add: Annotated[int, Option("Tokens to add at most.", min=1, metavar="N")]
    algorithm: Annotated[
        Literal["bpe", "scaffold"],
        Option("bpe, or scaffold: new tokens that only help to build others get no id."),
    ] = "bpe"
    veto: Annotated[
        Sequence[str],
        Option("No token in which this pattern is found, or that a file names; again for more.", metavar="REGEX|FILE"),
    ] = ()
    scripts: Annotated[str | None, Option("Only tokens of these scripts: Greek,Cyrillic.", metavar="NAMES")] = None
    min_count: Annotated[int, Option("Merge no pair that is rarer.", min=1, metavar="K")] = 2
    max_token_bytes: Annotated[int, Option("Merge nothing into a longer token.", min=2, metavar="N")] = (
        TrainingSettings.max_token_bytes
    )
    multiple: Annotated[int, Option("All ids together are rounded down to a multiple.", min=1, metavar="N")] = 1
    fit_rows: Annotated[
        str | None,
        Option("No more ids than an embedding has rows: a checkpoint, or a number.", metavar="CKPT|N"),
    ] = None
    control: Control = ()
    held_out: Annotated[
        Sequence[str],
        Option("Text, not learned from, that shows which new tokens are used; again for more.", metavar="TEXT",
               matters=False),
    ] = ()  # fmt: skip
    limit_bytes: LimitBytes = None
    max_memory: MaxMemory = None
    threads: Threads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class TrimSettings(Settings):
    """How many tokens go, and which may."""

    to: Annotated[
        int | None, Option("Ids that stay, added tokens included; --multiple rounds them up.", min=1, metavar="N")
    ] = None
    min_count: Annotated[int | None, Option("Tokens that occur less often in INPUT go.", min=1, metavar="K")] = None
    keep: Annotated[
        Path | None, Option("File of tokens that stay, one a line; all others go that may.", metavar="FILE")
    ] = None
    encoder: Annotated[
        Literal["lbpe"] | None,
        Option("lbpe: any token may go, for it needs no merges. Default: as the file says."),
    ] = None
    multiple: Annotated[int, Option("Ids that stay are rounded up to a multiple.", min=1, metavar="N")] = 1
    limit_bytes: LimitBytes = None
    threads: Threads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class DiffSettings(Settings):
    """On what text two tokenizers are compared, and how much is shown."""

    corpus: Annotated[
        Sequence[str], Option("Text whose encodings are compared; may be given again.", metavar="TEXT")
    ] = ()
    show: Annotated[int, Option("Of each list, so many are shown.", min=0, metavar="N")] = 10
    limit_bytes: LimitBytes = None


@dataclass(frozen=True, kw_only=True)
class CuttingSettings(Settings):
    """With which encoder a tokenizer is looked at."""

    encoder: Encoder = None
    length: Length = USUAL_LENGTH
    ties: Ties = USUAL_TIES


@dataclass(frozen=True, kw_only=True)
class EncodeSettings(Settings):
    """What ids become, and what stands around each document."""

    form: Annotated[
        Literal["ids", "jsonl", "npy", "bin", "mds"] | None,
        Option("Lines of ids, objects, flat arrays, or (--shards) MDS; if not given, what -o ends in.", "--format"),
    ] = None
    bos: Annotated[bool | None, Option("Begin each document with the beginning-of-text token.", "--bos/--no-bos")] = (
        None
    )
    eos: Annotated[bool, Option("End each document with the end-of-text token.", "--eos")] = False
    bos_token: Annotated[str | None, Option("--bos with this added token.", metavar="TOKEN")] = None
    eos_token: Annotated[
        str | None, Option("--eos with this one; a chat model's own ends a turn.", metavar="TOKEN")
    ] = None
    offsets: Annotated[bool, Option("Byte range of each id (format jsonl).", "--offsets")] = False
    shards: Annotated[
        str | int | None,
        Option("-o is a directory of .bin, .npy or MDS shards, each of so much of the corpus: 512MB.", metavar="SIZE"),
    ] = None
    part: Annotated[str | None, Option("Only every N-th shard, from the I-th on.", metavar="I/N", matters=False)] = None
    verify: Annotated[
        bool, Option("Check the shards in -o: hashes, counts, a sample encoded again.", "--verify", matters=False)
    ] = False
    workers: Annotated[
        int | None, Option("Processes, with --shards; all cores if not given.", min=1, matters=False)
    ] = None
    engine: Annotated[
        Literal["local", "ray"], Option("Processes here, or Ray (extra ray), with --shards.", matters=False)
    ] = "local"
    remap: Annotated[
        Path | None,
        Option("INPUT is a .bin or .npy of ids: renumber them by trim's ids.npy or DIR.", metavar="MAP", matters=False),
    ] = None
    bin_dtype: Annotated[
        Literal["uint16", "uint32"] | None,
        Option("Element type of a .bin without a sidecar, with --remap (nanoGPT: uint16).", matters=False),
    ] = None
    allow_special: Annotated[
        bool, Option("Special tokens in the text become their ids; else they are plain text.", "--allow-special")
    ] = False
    encoder: Encoder = None
    length: Length = USUAL_LENGTH
    ties: Ties = USUAL_TIES
    threads: Threads = None
    force: Force = False

    @property
    def written(self) -> Literal["ids", "jsonl", "npy", "bin", "mds"]:
        """The format, where none is given lines of ids."""
        return self.form or "ids"


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(Settings):
    """How documents are written."""

    text_mode: TextMode = "file"
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """What tokenizers are measured by."""

    reference: Annotated[str | None, Option("Parallel text (same ids) that parity refers to.", metavar="FILE")] = None
    plot: Plot = None
    force: Force = False
    alpha: Annotated[float, Option("Order of the Rényi entropy.")] = ALPHA
    rare: Annotated[int, Option("Count tokens seen fewer times than this.", min=1, metavar="K")] = RARE
    threads: Threads = None
    baseline: Annotated[
        Path | None,
        Option("What --json printed before: exit status 3 where a tokenizer has become worse.", metavar="FILE"),
    ] = None
    max_worse: Annotated[
        float, Option("Share by which bytes a token may fall below the baseline's.", min=0, metavar="SHARE")
    ] = 0.01
    show_text: Annotated[
        Sequence[str],
        Option(
            "A text that a page shows cut by each tokenizer; again for more. Default: how each corpus begins.",
            metavar="TEXT",
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """For whom a tokenizer is written, and what the export is checked on."""

    to: Annotated[Literal["hf", "tiktoken"], Option("For whom.")] = "hf"
    encoder: Encoder = None
    length: Length = USUAL_LENGTH
    ties: Ties = USUAL_TIES
    sample: Annotated[Sequence[str], Option("Text to check the export on; may be given again.", metavar="FILE")] = ()
    force: Force = False
