"""Options that several commands share, so that they are spelled, explained and read in one way."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli.signature import Only
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.config import read_config
from llmtool.core.run.console import Console
from llmtool.core.run.numbers import EXACT, whole


def _config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        names = {parameter.name or "": parameter.name or "" for parameter in context.command.params}
        for parameter in context.command.params:  # a flag may be called otherwise than what it sets: --set, --compile
            names |= {flag.strip("-").replace("-", "_"): parameter.name or "" for flag in parameter.opts}
        known = {name for name in names if len(name) > 1} - {"config"}
        whole_ones = {parameter.name for parameter in context.command.params if "int" in (parameter.type.name or "")}
        settings = {names[key]: value for key, value in read_config(path, known).items()}
        for name in whole_ones & settings.keys():  # Typer would cut 1.5 to 1
            for each in settings[name] if isinstance(settings[name], list) else [settings[name]]:
                whole(each, f"key {name!r}:", low=-EXACT, where=str(path))
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
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
OutputDirectory = Annotated[Path, typer.Option("--output", "-o", help="Directory to make.", metavar="DIR")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write instead of stdout.", metavar="FILE")
]
Calibration = Annotated[Reading, Only("field text_mode document_separator format strict include exclude")]
"""How text is read of which rows are drawn: broken text is replaced there, and what is drawn is the command's own."""
DrawnText = Annotated[Reading, Only("field text_mode document_separator format strict include exclude seed")]
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
