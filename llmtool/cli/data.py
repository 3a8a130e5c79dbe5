"""`llmtool data`: look at training data, and make it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.app import SETTINGS
from llmtool.core.run.errors import ExitCode

app = typer.Typer(no_args_is_help=True, help="Training data: check, make.", **SETTINGS)


@app.command("check")
def check(
    data: Annotated[list[str], typer.Argument(help="Instruction data: JSONL, JSON, Parquet.", metavar="DATA...")],
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", help="Tokenizer or checkpoint; its chat template is used.", metavar="TOK")
    ],
    data_format: options.DataFormat = "auto",
    template: options.Template = None,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens in a row.", metavar="N")] = 1024,
    packing: options.Packing = True,
    drop_overlong: options.DropOverlong = False,
    row: Annotated[int, typer.Option("--row", min=1, help="Which of the kept examples to print.", metavar="N")] = 1,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Print one example with the trained tokens marked, and what becomes of the rows; exit 3 if nothing is trained."""
    from llmtool.posttraining import DataOptions, check

    reading = DataOptions(tokenizer, data_format, template, length, drop_overlong, packing)
    report = check.check(data, reading, row=row, seed=seed, console=options.console(quiet, verbose=False))
    if as_json:
        print(json.dumps(report))
    else:
        check.show(report)
    if not report["counts"]["kept"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
