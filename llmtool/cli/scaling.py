"""`llmtool scaling`: fit, predict, backtest, compare, positions, law."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Only
from llmtool.commands.scaling.settings import (
    CompareSettings,
    FitSettings,
    LogSettings,
    PositionsSettings,
    PredictSettings,
    SizeSettings,
)
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Pages

app = Group("Say early where a training run will end.")

Logs = Annotated[
    list[str],
    typer.Argument(
        help="Logs: JSONL, trainer_state.json, CSV, TensorBoard, W&B, printed logs, run directories; - for stdin.",
        metavar="LOG...",
    ),
]
OneLog = Annotated[str, typer.Argument(help="A log as for fit; - for stdin.", metavar="LOG")]


@app.command("fit")
def fit(
    logs: Logs,
    settings: FitSettings,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Predict a run's final loss with a 90% interval, and when it reaches a loss."""
    from llmtool.commands.scaling import fit as fit_command

    console = options.console(quiet, verbose)
    if settings.follow and (pages.html or pages.markdown):
        raise UserError("--html and --markdown go without --follow", hint="fit the log again when the run has ended")
    read = [log for log in (*logs, *settings.like) if log != "-"]
    with pages.open("Where the run will end", console, read=read, force=settings.force, muted=as_json) as page:
        asked = page.drawing(settings) if len(logs) == 1 and not settings.joint and not settings.follow else settings
        status = fit_command.run(fit_command.make_request(logs, asked, as_json=as_json), page)
    raise typer.Exit(status)


@app.command("predict")
def predict(
    saved: Annotated[Path, typer.Argument(help="What `fit --output` or `law --output` wrote.", metavar="FIT")],
    settings: PredictSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Losses of a saved fit at other steps or under another schedule; of a saved law, at another size."""
    from llmtool.commands.scaling import laws, verbs

    facts = verbs.predict(saved, settings)
    lines = (
        laws.size_prediction_lines(facts)
        if "params" in facts["predictions"][0]
        else laws.prediction_lines(facts["predictions"])
    )
    print(dumps(facts) if as_json else "\n".join(lines))


@app.command("backtest")
def backtest(
    logs: Logs,
    settings: LogSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """How good would forecasts of finished runs have been at 20, 30 and 50% (or --fit-until)?"""
    from llmtool.commands.scaling import laws

    rows = laws.backtest_logs(logs, settings.look(), settings.law, options.console(quiet, verbose), settings.like)
    print(dumps(laws.backtests(rows)) if as_json else "\n".join(laws.backtest_lines(rows)))


@app.command("compare")
def compare(
    logs: Logs,
    settings: CompareSettings,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Which of several runs or data mixtures ends lower, and with what probability."""
    from llmtool.commands.scaling import laws

    console = options.console(quiet, verbose)
    read = [*logs, *settings.like]
    with pages.open("Which run ends lower", console, read=read, force=settings.force, muted=as_json) as page:
        facts, lines = laws.compare_logs(logs, page.drawing(settings), console=page)
        page.result(lines)
        if as_json:
            print(dumps(facts))


@app.command("positions")
def positions(
    log: OneLog,
    settings: Annotated[PositionsSettings, Only("metric fit_until horizon set plot force")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The Temporal Scaling Law over positions: its fit, its course over steps, the uniform-learning check."""
    from llmtool.commands.scaling import laws

    for facts in laws.positions_of(log, settings):
        print(dumps(facts) if as_json else "\n".join(laws.position_lines(facts)))


@app.command("law")
def law(
    runs: Annotated[
        Path,
        typer.Argument(
            help="Table of runs: params, tokens or FLOP, loss (unique_tokens; or loss, batch, steps). - for stdin."
        ),
    ],
    settings: SizeSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit a law over model and data sizes to many finished runs, with compute-optimal sizes."""
    from llmtool.commands.scaling import laws

    facts, lines = laws.size_law(runs, settings)
    print(dumps(facts) if as_json else "\n".join(lines))
