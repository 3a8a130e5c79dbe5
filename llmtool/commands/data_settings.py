"""The settings of `llmtool data nextlong` and its stages, each said once; a stage shows those that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from llmtool import catalog
from llmtool.commands.options import (
    Device,
    DryRun,
    Exclude,
    Field,
    Force,
    IdField,
    Include,
    InputFormat,
    Plot,
    Seed,
    Strict,
    TextMode,
)
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(catalog.options(catalog.DATA))]

Decontaminate = Annotated[
    Sequence[str],
    Option("Evaluation file: chunks that share n-grams are left out.", metavar="FILE"),
]
DecontaminateField = Annotated[
    str, Option("Fields of an evaluation file's rows, with commas: question,answer.", metavar="NAMES")
]
Ngram = Annotated[int, Option("Words of such an n-gram.", min=3, metavar="N")]


@dataclass(frozen=True, kw_only=True)
class NextlongSettings(Settings):
    """How samples are made of a corpus; the command line shows the options in this order."""

    target: Annotated[int, Option("Tokens of a sample.", metavar="T")] = 131072
    method: Annotated[Method, Option("How documents are put together; all but nextlong are for comparison.")] = (
        "nextlong"
    )
    plan: Annotated[
        Literal["exact", "paper"], Option("Negatives by a budget of tokens, or by the paper's formula.")
    ] = "exact"
    embedder: Annotated[str, Option("lsa, bm25, hf:PATH (encoder on disk), http://HOST/v1.", metavar="NAME")] = "lsa"
    embedder_prefix: Annotated[
        str | None, Option("In front of each chunk for an encoder; else the prompt the model names.", metavar="TEXT")
    ] = None
    index: Annotated[Literal["auto", "flat", "ivf-sq8", "ivf-pq"], Option("auto: exact up to 200,000 chunks.")] = "auto"
    size: Annotated[int, Option("Characters of a chunk.", "--chunk", min=16, metavar="N")] = 2048
    split: Annotated[
        Literal["lines", "sentences", "paper"],
        Option("Where chunks may end; lines: long ones are cut too; paper: they stay whole."),
    ] = "lines"
    min_chunks: Annotated[int, Option("Chunks of a seed, at least.", min=1, metavar="N")] = 2
    position: Annotated[Literal["head", "tail", "random"], Option("Place of a meta-chunk among its negatives.")] = (
        "head"
    )
    separator: Annotated[str, Option("Text between chunks; \\n is a newline.")] = "\\n\\n"
    samples: Annotated[
        int | None, Option("Samples; if not given, as many tokens as the corpus has.", min=1, metavar="N")
    ] = None
    tokens: Annotated[
        str | None, Option("Tokens of all samples together (4B, 500M), instead of --samples.", metavar="N")
    ] = None
    bos: Annotated[bool, Option("Begin each row of ids with the tokenizer's first token.", "--bos")] = False
    eos: Annotated[bool, Option("End each row of ids with the tokenizer's end-of-text token.", "--eos")] = False
    form: Annotated[Literal["jsonl", "bin", "npy", "mds"], Option("What is written.", "--format")] = "jsonl"
    recipe: Annotated[
        Literal["512k"] | None,
        Option("The authors' mixture: --target 524288 --packed 65536 --packed-share 0.67."),
    ] = None
    packed: Annotated[
        int | None, Option("Rows of several samples of T tokens beside those of one sample.", min=64, metavar="T")
    ] = None
    packed_share: Annotated[float, Option("Share of these among the rows of samples.", min=0, max=1)] = 0.67
    short_data: Annotated[
        Sequence[str], Option("Ordinary documents, packed into rows of their own; may be given again.", metavar="FILE")
    ] = ()
    short_share: Annotated[float, Option("Share of the tokens that --short-data makes up.", min=0, max=1)] = 0.4
    keep_long: Annotated[bool, Option("Emit seeds longer than the target, cut.", "--keep-long")] = False
    dedupe: Annotated[
        Literal["near", "exact", "none"], Option("Copies of chunks that are merged before the index.")
    ] = "near"
    max_overlap: Annotated[
        float, Option("Word sequences that a negative may share with a chunk of its sample.", min=0.05, max=1)
    ] = 0.1
    min_similarity: Annotated[
        float | None,
        Option("Cosine of a negative; if not given, what 2% of random pairs reach.", min=0, max=1, metavar="X"),
    ] = None
    holdout: Annotated[
        float, Option("Share of the documents that no sample sees; they go to OUT/held-out.jsonl.", min=0, max=0.9)
    ] = 0.0
    caps: Annotated[
        Sequence[str], Option("Limit a source's share; may be given again.", "--cap", metavar="SOURCE=SHARE")
    ] = ()
    source_field: Annotated[str | None, Option("Field that names the source; else the file's.", metavar="NAME")] = None
    licence_field: Annotated[str, Option("Field that holds the licence.", "--license-field", metavar="NAME")] = (
        "license"
    )
    decontaminate: Decontaminate = ()
    decontaminate_field: DecontaminateField = "text"
    ngram: Ngram = 13
    field: Field = ("text",)
    id_field: IdField = None
    text_mode: TextMode = "file"
    include: Include = ()
    exclude: Exclude = ()
    input_format: InputFormat = "auto"
    strict: Strict = False
    work: Annotated[Path | None, Option("Where the stages stand; else OUT/work.", matters=False)] = None
    workers: Annotated[int | None, Option("Processes; all cores if not given.", min=1, matters=False)] = None
    engine: Annotated[Literal["local", "ray"], Option("Processes here, or Ray (extra ray).", matters=False)] = "local"
    seed: Seed = 0
    force: Force = False
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """What the quality of a run is measured by."""

    plot: Plot = None
    decontaminate: Decontaminate = ()
    decontaminate_field: DecontaminateField = "text"
    ngram: Ngram = 13
    model: Annotated[Path | None, Option("Checkpoint: what meta-chunks gain from the ones before.", metavar="CKPT")] = (
        None
    )
    model_samples: Annotated[
        int, Option("Samples that --model looks at; --json holds the gain of each.", min=1, metavar="N")
    ] = 32
    device: Device = "auto"
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class ShowSettings(Settings):
    """How much of a sample is shown."""

    characters: Annotated[int | None, Option("Characters shown of each span.", "--chars", min=1, metavar="N")] = 240
    whole: Annotated[bool, Option("Whole spans.", "--all")] = False
