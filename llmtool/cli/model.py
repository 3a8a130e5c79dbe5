"""`llmtool generate` and `llmtool verify`: run checkpoints."""

from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.commands.generation.settings import GenerateSettings, VerifySettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps


def generate(
    checkpoint: options.Checkpoint,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to continue, decoded together; - or nothing for stdin.", metavar="[PROMPT]..."),
    ] = None,
    *,
    settings: GenerateSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Continue text; a single prompt streams to stdout."""
    from llmtool.commands.generate import print_texts

    print_texts(checkpoint, prompts or [], settings, as_json=as_json, console=options.console(quiet, verbose))


def verify(
    norm: options.Checkpoint,
    other: options.Checkpoint,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Text to compare on; - for stdin. Default: random ids.", metavar="[INPUT]..."),
    ] = None,
    *,
    settings: VerifySettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare the logits of two checkpoints: KL divergence, largest difference, same likeliest token."""
    from llmtool.commands.verify import lines
    from llmtool.commands.verify import verify as compare

    console = options.console(quiet, verbose=False)
    report = compare(norm, other, inputs or [], settings, reading=reading, console=console)
    print(dumps(report) if as_json else "\n".join(lines(report)))
    if report["passed"] is False:
        raise typer.Exit(ExitCode.CHECK_FAILED)
