"""`llmtool eval`: what a checkpoint knows."""

from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Behind
from llmtool.commands.eval.activations import ActivationsSettings
from llmtool.commands.eval.settings import AttentionSettings, ExpertsSettings, LossSettings, NiahSettings, RulerSettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.json_file import dumps

app = Group("What a checkpoint knows and does on text.")

Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Text or tokens, [NAME=]PATH; may be given again.", metavar="DATA"),
]


@app.command("loss")
def loss(
    checkpoint: options.Checkpoint,
    data: Data = None,
    *,
    settings: LossSettings,
    reading: Annotated[Reading, Behind("mask_documents")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Nats a token and bits a byte, by source and by position."""
    from llmtool.commands.eval import loss

    console = options.console(quiet, verbose=False)
    report = loss.loss(checkpoint, data or [], settings, reading=reading, console=console)
    print(dumps(report)) if as_json else loss.loss_table(report, console)


@app.command("niah")
def niah(
    checkpoint: options.Checkpoint,
    data: Data = None,
    *,
    settings: NiahSettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Needle in a haystack: what is found at which depth of which length; without --data in random ids."""
    from llmtool.commands.eval import niah as search

    console = options.console(quiet, verbose=False)
    report = search.needles(checkpoint, data or [], settings, reading=reading, console=console)
    print(dumps(report)) if as_json else search.needle_table(report, console)


@app.command("ruler")
def ruler(
    checkpoint: options.Checkpoint,
    settings: RulerSettings,
    reading: Reading,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Text or tokens to hide things in; may be given again.", metavar="DATA"),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Ask questions over a long context, of RULER's kinds: needles, variables, common words, people."""
    from llmtool.commands.eval import ruler as command

    console = options.console(quiet, verbose=False)
    report = command.ruler(checkpoint, data or [], settings, reading=reading, console=console)
    if as_json or settings.dry_run:
        print(dumps(report))
    else:
        command.lines(report, console)


@app.command("attention")
def attention(
    checkpoint: options.Checkpoint,
    data: Annotated[list[str], typer.Option("--data", help="Text to look at; may be given again.", metavar="TEXT")],
    settings: AttentionSettings,
    reading: options.DrawnText,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Compare the layers' attention maps, and plan which layers can share one for the wanted saving."""
    from llmtool.commands.eval import attention as command

    console = options.console(quiet, verbose=False)
    facts = command.attention(checkpoint, data, settings, reading=reading, console=console)
    if as_json:
        print(dumps(facts))
    else:
        command.show(facts, console)


@app.command("experts")
def experts(
    checkpoint: options.Checkpoint,
    data: Annotated[
        list[str],
        typer.Option("--data", help="Text, each given file or directory a source of its own.", metavar="INPUT"),
    ],
    settings: ExpertsSettings,
    reading: options.DrawnText,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Show which experts a DSMoE checkpoint uses, by layer and by text source, and its loss at other thresholds."""
    from llmtool.commands.eval import experts as command

    console = options.console(quiet, verbose=False)
    facts = command.experts(checkpoint, data, settings, reading=reading, console=console)
    print(dumps(facts) if as_json else "\n".join(command.lines(facts)))


@app.command("activations")
def activations(
    checkpoint: options.Checkpoint,
    data: Annotated[list[str], typer.Option("--data", help="Text to look at; may be given again.", metavar="INPUT")],
    settings: ActivationsSettings,
    reading: options.DrawnText,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Measure how many feed-forward activations are not near zero, by layer, on any dense checkpoint (NSAR)."""
    from llmtool.commands.eval import activations as command

    console = options.console(quiet, verbose=False)
    facts = command.activations(checkpoint, data, settings, reading=reading, console=console)
    print(dumps(facts) if as_json else "\n".join(command.lines(facts)))
