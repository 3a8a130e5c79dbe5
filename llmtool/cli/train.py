"""`llmtool train`: one loop, from a laptop to a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.commands.train.settings import TrainSettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Pages


def train(
    data: Annotated[
        list[str],
        typer.Argument(help="Tokens (.bin, .npy) or text; several as [NAME=]PATH[@WEIGHT].", metavar="DATA..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the run and the model.", metavar="OUT")],
    settings: TrainSettings,
    reading: Reading,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Train a model. The same command goes on where a stopped run was; exit status 4: stopped, and can go on."""
    from llmtool.commands.sources import parse_source
    from llmtool.commands.train.command import train as run
    from llmtool.commands.train.job import PLOT

    console = options.console(quiet, verbose)
    with pages.open(
        f"Training of {output}", console, read=[parse_source(source).path for source in data], force=True
    ) as page:
        report = run(data, output, settings, reading=reading, console=page)
        page.figure(output / PLOT)
        if as_json or settings.dry_run:
            print(dumps(report, default=str))
    if report.get("stopped"):
        raise typer.Exit(ExitCode.RESUMABLE)
