"""Options that several commands share, so that they are spelled, explained and read in one way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmtool import catalog
from llmtool.core.run.config import read_config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    Algorithm = str
    Encoder = str
else:
    ALIASES = ("lbpe", "scaffold-lbpe")
    Algorithm = Literal[(*catalog.options(catalog.TRAINING), *ALIASES)]
    Encoder = Literal[tuple(catalog.options(catalog.ENCODING))]


def _config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        names = {parameter.name or "": parameter.name or "" for parameter in context.command.params}
        for parameter in context.command.params:  # a flag may be called otherwise than what it sets: --set, --compile
            names |= {flag.strip("-").replace("-", "_"): parameter.name or "" for flag in parameter.opts}
        known = {name for name in names if len(name) > 1} - {"config"}
        settings = {names[key]: value for key, value in read_config(path, known).items()}
        context.default_map = {**(context.default_map or {}), **settings}
    return path


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Text, JSONL or Parquet files (.gz and .zst too), directories, or - for stdin.", metavar="INPUT..."
    ),
]
OptionalInputs = Annotated[
    list[str] | None,
    typer.Argument(help="Files or directories as for train; - or nothing for stdin.", metavar="[INPUT]..."),
]
Tok = Annotated[
    str, typer.Argument(help="Our tokenizer file, a Hugging Face tokenizer.json, or its directory.", metavar="TOK")
]
Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint: a directory with config.json.", metavar="CKPT")]
Dtype = Annotated[
    Literal["bf16", "fp16", "fp32", "fp64"] | None,
    typer.Option("--dtype", help="Element type of the weights. Default: as they are stored."),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda or cuda:N; auto takes a GPU where there is one.", metavar="DEVICE")
]
Kernels = Annotated[
    Literal["auto", "torch", "triton"],
    typer.Option("--kernels", help="Code of the ops: torch, Triton, or auto: Triton where measured on this GPU."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.", metavar="N")]
MaxShardSize = Annotated[str, typer.Option("--max-shard-size", help="Data in one file: 5GB, 512MiB.", metavar="SIZE")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write instead of stdout.", metavar="FILE")
]
Field = Annotated[str, typer.Option("--field", help="JSONL or Parquet field that holds the text.", metavar="NAME")]
TextMode = Annotated[
    Literal["file", "line"], typer.Option("--documents", help="Plain text: one document a file, or one a line.")
]
Separator = Annotated[
    str | None,
    typer.Option("--document-separator", help="Plain text: a document ends wherever this stands.", metavar="TEXT"),
]
InputFormat = Annotated[
    Literal["auto", "text", "jsonl", "parquet"],
    typer.Option("--input-format", help="What the inputs are; auto looks at their content."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that does not parse.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the engine; all cores if not given.", metavar="N")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw a figure, PNG or SVG by name.", metavar="FILE")]
DataFormat = Annotated[
    Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"],
    typer.Option("--format", help="What the rows are; auto tells it by their fields."),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template", help="Chat template: a file, plain, or chatml. Default: the tokenizer's.", metavar="TEMPLATE"
    ),
]
OwnTokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", help="Tokenizer and template, if not the checkpoint's.", metavar="TOK")
]
Packing = Annotated[bool, typer.Option("--pack/--no-pack", help="Several examples in a row, or one.")]
DropOverlong = Annotated[bool, typer.Option("--drop-overlong", help="Drop examples that are too long, not cut them.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors and warnings only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More about what is done.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A method's setting instead of config.json's: dsmoe.tau=0.7. Again for more.",
        metavar="METHOD.KEY=VALUE",
    ),
]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file of options (vocab-size = 8000); the command line overrides it.",
        metavar="FILE",
        is_eager=True,
        callback=_config,
    ),
]


def console(quiet: bool, verbose: bool) -> Console:
    """The console of one command."""
    return Console(-1 if quiet else int(verbose))


def settings(given: list[str] | None) -> dict[str, dict[str, str]]:
    """--set METHOD.KEY=VALUE -> {METHOD: {KEY: VALUE}}."""
    found: dict[str, dict[str, str]] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        method, dot, key = name.strip().partition(".")
        if not (equals and dot and method and key and value.strip()):
            raise UserError(f"--set {text}: wanted METHOD.KEY=VALUE", hint="--set dsmoe.tau=0.7")
        found.setdefault(method, {})[key] = value.strip()
    return found


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers with commas between, each at least 1."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise UserError(f"{option} {text!r}: not whole numbers", hint="such as 1,8")
    return [int(word) for word in words]
