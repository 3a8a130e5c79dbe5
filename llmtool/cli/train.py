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
from llmtool.core.run.processes import leads


def train(
    data: Annotated[
        list[str],
        typer.Argument(help="Tokens (.bin, .npy) or text; several as [NAME=]PATH[@WEIGHT].", metavar="DATA..."),
    ],
    output: Annotated[Path | None, options.written("Directory of the run and the model.", "model")] = None,
    *,
    settings: TrainSettings,
    reading: Reading,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model. The same command goes on where a stopped run was; exit status 4: stopped, and can go on."""
    from llmtool.commands.places import MODEL
    from llmtool.commands.sources import parse_source
    from llmtool.commands.tokenizer.train import train_file
    from llmtool.commands.train.command import train as run
    from llmtool.commands.train.command import wants_tokenizer
    from llmtool.commands.train.job import PLOT
    from llmtool.commands.train.place import check_place

    console, place = options.console(quiet, verbose), output or MODEL
    read = [parse_source(source).path for source in data]
    named = [name for name in (settings.tokenizer, settings.model) if name and Path(name).exists()]
    everything = [*read, *(parse_source(source).path for source in settings.valid), *named]
    with pages.open(
        f"Training of {place}", console, read=everything, force=settings.force, grows=True, muted=as_json
    ) as page:
        if not settings.dry_run and wants_tokenizer(data, settings):
            check_place(place, read, console)
            console.info("no tokenizer is named, and none stands here: one is made first")
            train_file(read, None, reading=reading, console=console)
        report = run(data, place, settings, reading=reading, console=page)
        page.figure(place / PLOT)
        if (as_json or settings.dry_run) and leads():
            print(dumps(report, default=str))
    if report.get("stopped"):
        raise typer.Exit(ExitCode.RESUMABLE)
