"""Options that several commands share, so that they are spelled, explained and read in one way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmtool import catalog
from llmtool.commands.options import (
    BinDtype as BinDtype,
)
from llmtool.commands.options import (
    DataFormat as DataFormat,
)
from llmtool.commands.options import (
    Date as Date,
)
from llmtool.commands.options import (
    Device as Device,
)
from llmtool.commands.options import (
    DropOverlong as DropOverlong,
)
from llmtool.commands.options import (
    DryRun as DryRun,
)
from llmtool.commands.options import (
    Dtype as Dtype,
)
from llmtool.commands.options import (
    Force as Force,
)
from llmtool.commands.options import (
    Ignore as Ignore,
)
from llmtool.commands.options import (
    Kernels as Kernels,
)
from llmtool.commands.options import (
    Override as Override,
)
from llmtool.commands.options import (
    Packing as Packing,
)
from llmtool.commands.options import (
    Plot as Plot,
)
from llmtool.commands.options import (
    Seed as Seed,
)
from llmtool.commands.options import (
    Set as Set,
)
from llmtool.commands.options import (
    Template as Template,
)
from llmtool.commands.options import (
    TextMode as TextMode,
)
from llmtool.commands.options import (
    Threads as Threads,
)
from llmtool.commands.options import (
    TorchThreads as TorchThreads,
)
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
        help="Text, JSONL, Parquet and more (docs/corpora.md); directories, URLs, - for stdin.",
        metavar="INPUT...",
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
MaxShardSize = Annotated[str, typer.Option("--max-shard-size", help="Data in one file: 5GB, 512MiB.", metavar="SIZE")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write instead of stdout.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors and warnings only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More about what is done.")]
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


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers with commas between, each at least 1."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise UserError(f"{option} {text!r}: not whole numbers", hint="such as 1,8")
    return [int(word) for word in words]
