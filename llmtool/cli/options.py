"""Options that several commands share, so that they are spelled, explained and read in one way."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmtool.cli.signature import Only
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console

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
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write instead of stdout.", metavar="FILE")
]
TokOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", help="Tokenizer file, tokenizer.json, or its directory. Default: tokenizer.json.", metavar="TOK"
    ),
]
Calibration = Annotated[Reading, Only("field text_mode document_separator format strict include exclude")]
"""How text is read of which rows are drawn: broken text is replaced there, and what is drawn is the command's own."""
DrawnText = Annotated[Reading, Only("field text_mode document_separator format strict include exclude seed")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors and warnings only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More about what is done.")]


def written(what: str, default: str) -> Any:
    """The option -o of a command that writes `default` where it is not given."""
    standin = "DIR" if what.startswith("Directory") else "FILE"
    return typer.Option("--output", "-o", help=f"{what} Default: {default}.", metavar=standin)


def made(default: str) -> Any:
    """The argument OUT of a command that makes a directory."""
    return typer.Argument(help=f"Directory to make. Default: {default}.", metavar="[OUT]")


def console(quiet: bool, verbose: bool) -> Console:
    """The console of one command."""
    return Console(-1 if quiet else int(verbose))
