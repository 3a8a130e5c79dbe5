"""`llmtool posttrain`: sft, uniattn."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.commands.posttrain.settings import SftSettings, UniattnSettings
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps
from llmtool.core.run.processes import leads

app = Group("Train checkpoints on instruction data.")

Data = Annotated[
    list[str],
    typer.Argument(
        help="messages, sharegpt, alpaca, prompt-completion or text rows; see data check.", metavar="DATA..."
    ),
]


@app.command("sft")
def sft(
    checkpoint: options.Checkpoint,
    data: Data,
    output: Annotated[Path | None, options.written("Directory of the run and the model.", "CKPT-sft")] = None,
    *,
    settings: SftSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Standard supervised fine-tuning: packed rows, answers alone in the loss. The same command resumes."""
    from llmtool.commands.posttrain.sft import sft as run

    finish(run(checkpoint, data, output, settings, console=options.console(quiet, verbose)), as_json, settings)


@app.command("uniattn")
def uniattn(
    checkpoint: options.Checkpoint,
    data: Data,
    output: Annotated[Path | None, options.written("Directory of the run and the model.", "CKPT-posttrained")] = None,
    *,
    settings: UniattnSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Post-train what `convert uniattn` made: the compensations alone (OUT.stage1), then everything."""
    from llmtool.commands.posttrain.sft import uniattn as run

    finish(run(checkpoint, data, output, settings, console=options.console(quiet, verbose)), as_json, settings)


def finish(report: dict[str, object], as_json: bool, settings: SftSettings) -> None:
    """Print the report if asked for; a run that a signal stopped can go on."""
    if (as_json or settings.dry_run) and leads():
        print(dumps(report, default=str))
    if report.get("stopped"):
        raise typer.Exit(ExitCode.RESUMABLE)
