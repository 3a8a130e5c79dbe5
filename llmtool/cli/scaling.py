"""`llmtool scaling`: fit, predict, backtest, compare, positions, law."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Only
from llmtool.commands.scaling.settings import (
    Decay,
    EndRate,
    FitSettings,
    Horizon,
    LogSettings,
    Peak,
    Schedule,
    Warmup,
)
from llmtool.core.run.json_file import dumps

app = Group("Say early where a training run will end.")

Logs = Annotated[
    list[str],
    typer.Argument(
        help="Logs: JSONL, trainer_state.json, CSV, TensorBoard events, printed logs, run directories; - for stdin.",
        metavar="LOG...",
    ),
]
OneLog = Annotated[str, typer.Argument(help="A log as for fit; - for stdin.", metavar="LOG")]


@app.command("fit")
def fit(
    logs: Logs,
    settings: FitSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Predict a run's final loss with a 90% interval, and when it reaches a loss."""
    from llmtool.commands.scaling import fit as fit_command

    request = fit_command.make_request(logs, settings, as_json=as_json)
    every = settings.every if settings.follow else None
    raise typer.Exit(fit_command.run(request, options.console(quiet, verbose), joint=settings.joint, follow=every))


@app.command("predict")
def predict(
    saved: Annotated[Path, typer.Argument(help="What `fit --output` or `law --output` wrote.", metavar="FIT")],
    at: Annotated[
        list[float] | None, typer.Option("--at", help="Step; may be given again. Else the horizon.", metavar="STEP")
    ] = None,
    schedule: Schedule = None,
    schedule_of: Annotated[
        str | None, typer.Option("--schedule-of", help="Take the learning rate of this log.", metavar="LOG")
    ] = None,
    peak: Peak = None,
    end_lr: EndRate = None,
    decay: Decay = None,
    warmup: Warmup = None,
    horizon: Horizon = None,
    params: Annotated[
        str | None, typer.Option("--params", help="Of a law over sizes: parameters, such as 7B.", metavar="N")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", help="Of a law over sizes: tokens, such as 1T.", metavar="D")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Losses of a saved fit at other steps or under another schedule; of a saved law, at another size."""
    from llmtool.commands.scaling import laws

    if params is not None or tokens is not None:
        facts = laws.predict_size(saved, params or "", tokens or "")
        print(dumps(facts) if as_json else "\n".join(laws.size_prediction_lines(facts)))
        return
    look = LogSettings(horizon=horizon, schedule=schedule, peak=peak, end_lr=end_lr, decay=decay, warmup=warmup).look()
    rows = laws.predict_fit(saved, at or [], look, schedule_of)
    print(dumps(laws.predictions(rows)) if as_json else "\n".join(laws.prediction_lines(rows)))


@app.command("backtest")
def backtest(
    logs: Logs,
    settings: LogSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """How good would forecasts of finished runs have been at 20, 30 and 50% (or --fit-until)?"""
    from llmtool.commands.scaling import laws

    rows = laws.backtest_logs(logs, settings.look(), settings.law, options.console(quiet, verbose))
    print(dumps(laws.backtests(rows)) if as_json else "\n".join(laws.backtest_lines(rows)))


@app.command("compare")
def compare(
    logs: Logs,
    settings: LogSettings,
    force: Annotated[bool, typer.Option("--force", help="Compare in spite of other horizons or tokenizers.")] = False,
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Which of several runs or data mixtures ends lower, and with what probability."""
    from llmtool.commands.scaling import laws

    console = options.console(quiet, verbose)
    facts, lines = laws.compare_logs(logs, settings.look(), settings.law, plot, console, force=force)
    print(dumps(facts) if as_json else "\n".join(lines))


@app.command("positions")
def positions(
    log: OneLog,
    settings: Annotated[LogSettings, Only("metric fit_until horizon")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Evaluation set; may be given again.", metavar="NAME")
    ] = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """The Temporal Scaling Law over positions: its fit, its course over steps, the uniform-learning check."""
    from llmtool.commands.scaling import laws

    for facts in laws.positions_of(log, settings.look(), plot, sets or ()):
        print(dumps(facts) if as_json else "\n".join(laws.position_lines(facts)))


@app.command("law")
def law(
    runs: Annotated[
        Path, typer.Argument(help="CSV of runs: params, tokens or FLOP, loss (unique_tokens; or loss, batch, steps).")
    ],
    law: Annotated[
        Literal["chinchilla", "kaplan", "data-constrained", "critical-batch"], typer.Option("--law", help="Which law.")
    ] = "chinchilla",
    bootstrap: Annotated[int, typer.Option("--bootstrap", min=0, help="Resamples for intervals.", metavar="N")] = 100,
    compute: Annotated[
        list[float] | None,
        typer.Option("--compute", help="Best sizes for this many FLOPs; may be given again.", metavar="FLOPS"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    plot: options.Plot = None,
    output: options.OptionalOutput = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Fit a law over model and data sizes to many finished runs, with compute-optimal sizes."""
    from llmtool.commands.scaling import laws

    facts, lines = laws.size_law(runs, law, bootstrap, compute or [], seed, plot, output, force=force)
    print(dumps(facts) if as_json else "\n".join(lines))
