"""`llmtool eval`: what a checkpoint knows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Behind
from llmtool.commands.eval.activations import ActivationsSettings
from llmtool.commands.eval.settings import AttentionSettings, ExpertsSettings, LossSettings, NiahSettings, RulerSettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Page, Pages
from llmtool.core.run.processes import leads
from llmtool.core.run.settings import Settings

app = Group("What a checkpoint knows and does on text.")

Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Text or tokens, [NAME=]PATH; may be given again.", metavar="DATA"),
]


Report = dict[str, Any]
S = TypeVar("S", bound=Settings)


def _report(
    title: str,
    checkpoint: Path,
    data: Sequence[str] | None,
    settings: S,
    pages: Pages,
    measure: Callable[[S, Page], Report],
    show: Callable[[Report, Page], None],
    as_json: bool,
    quiet: bool,
) -> None:
    """What every command here does: measure, show to people or print as JSON, and write a page where one is asked."""
    from llmtool.commands.sources import parse_source

    named = (getattr(settings, name, None) for name in ("tokenizer", "against", "dense"))
    read: list[str | Path] = [checkpoint, *(parse_source(text).path for text in data or []), *filter(None, named)]
    console = options.console(quiet, verbose=False)
    force = bool(getattr(settings, "force", False))
    with pages.open(f"{title}: {checkpoint}", console, read=read, force=force, muted=as_json) as page:
        report = measure(page.drawing(settings), page)
        show(report, page)
        if as_json and leads():
            print(dumps(report))


@app.command("loss")
def loss(
    checkpoint: options.Checkpoint,
    data: Data = None,
    *,
    settings: LossSettings,
    reading: Annotated[Reading, Behind("mask_documents")],
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Nats a token and bits a byte, by source and by position."""
    from llmtool.commands.eval import loss

    def measure(asked: LossSettings, page: Page) -> Report:
        return loss.loss(checkpoint, data or [], asked, reading=reading, console=page)

    _report("Loss", checkpoint, data, settings, pages, measure, loss.loss_table, as_json, quiet)


@app.command("niah")
def niah(
    checkpoint: options.Checkpoint,
    data: Data = None,
    *,
    settings: NiahSettings,
    reading: Reading,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Needle in a haystack: what is found at which depth of which length; without --data in random ids."""
    from llmtool.commands.eval import niah as search

    def measure(asked: NiahSettings, page: Page) -> Report:
        return search.needles(checkpoint, data or [], asked, reading=reading, console=page)

    _report("Needles found", checkpoint, data, settings, pages, measure, search.needle_table, as_json, quiet)


@app.command("ruler")
def ruler(
    checkpoint: options.Checkpoint,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Text or tokens to hide things in; may be given again.", metavar="DATA"),
    ] = None,
    *,
    settings: RulerSettings,
    reading: Reading,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Ask questions over a long context, of RULER's kinds: needles, variables, common words, people."""
    from llmtool.commands.eval import ruler as command

    def measure(asked: RulerSettings, page: Page) -> Report:
        return command.ruler(checkpoint, data or [], asked, reading=reading, console=page)

    def show(report: Report, page: Page) -> None:
        command.show(report, page)

    _report("Questions over a long context", checkpoint, data, settings, pages, measure, show, as_json, quiet)


@app.command("attention")
def attention(
    checkpoint: options.Checkpoint,
    data: Annotated[list[str], typer.Option("--data", help="Text to look at; may be given again.", metavar="TEXT")],
    settings: AttentionSettings,
    reading: options.DrawnText,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare the layers' attention maps, and plan which layers can share one for the wanted saving."""
    from llmtool.commands.eval import attention as command

    def measure(asked: AttentionSettings, page: Page) -> Report:
        return command.attention(checkpoint, data, asked, reading=reading, console=page)

    _report(
        "Attention maps that layers share", checkpoint, data, settings, pages, measure, command.show, as_json, quiet
    )


@app.command("experts")
def experts(
    checkpoint: options.Checkpoint,
    data: Annotated[
        list[str],
        typer.Option("--data", help="Text, each given file or directory a source of its own.", metavar="INPUT"),
    ],
    settings: ExpertsSettings,
    reading: options.DrawnText,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which experts a DSMoE checkpoint uses, by layer and by text source, and its loss at other thresholds."""
    from llmtool.commands.eval import experts as command

    def measure(asked: ExpertsSettings, page: Page) -> Report:
        return command.experts(checkpoint, data, asked, reading=reading, console=page)

    def show(facts: Report, page: Page) -> None:
        page.result(command.lines(facts))

    _report("Experts in use", checkpoint, data, settings, pages, measure, show, as_json, quiet)


@app.command("activations")
def activations(
    checkpoint: options.Checkpoint,
    data: Annotated[list[str], typer.Option("--data", help="Text to look at; may be given again.", metavar="INPUT")],
    settings: ActivationsSettings,
    reading: options.DrawnText,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how many feed-forward activations are not near zero, by layer, on any dense checkpoint (NSAR)."""
    from llmtool.commands.eval import activations as command

    def measure(asked: ActivationsSettings, page: Page) -> Report:
        return command.activations(checkpoint, data, asked, reading=reading, console=page)

    def show(facts: Report, page: Page) -> None:
        page.result(command.lines(facts))

    _report("Activations near zero", checkpoint, data, settings, pages, measure, show, as_json, quiet)
