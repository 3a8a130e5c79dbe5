"""`llmtool scaling`: fit, predict, backtest, compare, positions, law."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group

app = Group("Say early where a training run will end.")

Logs = Annotated[
    list[str],
    typer.Argument(
        help="Logs: JSONL, trainer_state.json, CSV, TensorBoard events, printed logs, run directories; - for stdin.",
        metavar="LOG...",
    ),
]
OneLog = Annotated[str, typer.Argument(help="A log as for fit; - for stdin.", metavar="LOG")]
Law = Annotated[
    Literal["auto", "temporal", "cooldown", "mpl", "annealing", "power", "shifted", "log", "hyperbola"],
    typer.Option("--law", help="Law of the loss; auto chooses by back-test and says why."),
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="Loss to look at: train, val, or an evaluation set's name.", metavar="NAME"),
]
FitUntil = Annotated[
    str | None,
    typer.Option("--fit-until", help="Look at no more than this: a step, or a share such as 30%.", metavar="STEP"),
]
Horizon = Annotated[
    float | None,
    typer.Option("--horizon", min=1, help="Last step of the run; else that of the known schedule.", metavar="STEPS"),
]
Schedule = Annotated[
    Literal["cosine", "linear", "wsd", "wsd-sqrt", "inverse-sqrt", "power", "constant"] | None,
    typer.Option("--schedule", help="Learning rate where the log does not hold it; wsd-sqrt falls as 1 - sqrt."),
]
Peak = Annotated[float | None, typer.Option("--peak", min=0, help="Peak of --schedule.", metavar="RATE")]
EndRate = Annotated[
    float | None, typer.Option("--end-lr", min=0, help="Last rate of --schedule; else a tenth of the peak.")
]
Decay = Annotated[
    float | None, typer.Option("--decay", min=0.001, max=1, help="Share of the steps in which wsd decays; else 0.2.")
]
Warmup = Annotated[
    float | None, typer.Option("--warmup", min=0, help="Steps of warm-up; else seen in the log.", metavar="STEPS")
]
StepColumn = Annotated[
    str | None, typer.Option("--step-column", help="Column of the step, if not seen by its name.", metavar="NAME")
]
LossColumn = Annotated[
    str | None, typer.Option("--loss-column", help="Column of the loss, if not seen by its name.", metavar="NAME")
]
RateColumn = Annotated[
    str | None, typer.Option("--lr-column", help="Column of the learning rate, if not seen.", metavar="NAME")
]
Smooth = Annotated[int, typer.Option("--smooth", min=1, help="Average this many rows first.", metavar="N")]


@app.command("fit")
def fit(
    logs: Logs,
    law: Law = "auto",
    metric: Metric = None,
    fit_until: FitUntil = None,
    horizon: Horizon = None,
    schedule: Schedule = None,
    peak: Peak = None,
    end_lr: EndRate = None,
    decay: Decay = None,
    warmup: Warmup = None,
    smooth: Smooth = 1,
    step_column: StepColumn = None,
    loss_column: LossColumn = None,
    lr_column: RateColumn = None,
    joint: Annotated[bool, typer.Option("--joint", help="One law for runs that differ in their schedules.")] = False,
    target_loss: Annotated[
        list[float] | None,
        typer.Option("--target-loss", help="When is this loss reached? May be given again.", metavar="LOSS"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Fit again while the run goes on.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between looks with --follow.")] = 30.0,
    require_confident: Annotated[
        bool, typer.Option("--require-confident", help="Exit 3 if the forecast is not confident.")
    ] = False,
    max_predicted_loss: Annotated[
        float | None, typer.Option("--max-predicted-loss", help="Exit 3 if the end is above this.", metavar="LOSS")
    ] = None,
    plot: options.Plot = None,
    output: options.OptionalOutput = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Predict a run's final loss with a 90% interval, and when it reaches a loss."""
    from llmtool.commands.scaling import fit as fit_command
    from llmtool.methods.temporal_scaling.look import Look

    columns = (step_column, loss_column, lr_column)
    look = Look(metric, fit_until, horizon, schedule, peak, end_lr, decay, warmup, smooth, *columns)
    request = fit_command.Request(
        logs, look, law, tuple(target_loss or ()), plot, output, force, require_confident, max_predicted_loss, as_json
    )
    console = options.console(quiet, verbose)
    status = fit_command.run(request, console, joint=joint, follow=every if follow else None)
    raise typer.Exit(status)


@app.command("predict")
def predict(
    saved: Annotated[Path, typer.Argument(help="A fit that `fit --output` wrote.", metavar="FIT")],
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
    as_json: options.Json = False,
) -> None:
    """Losses of a saved fit at other steps, or under another schedule."""
    from llmtool.commands.scaling import laws
    from llmtool.methods.temporal_scaling.look import Look

    look = Look(None, None, horizon, schedule, peak, end_lr, decay, warmup)
    rows = laws.predict_fit(saved, at or [], look, schedule_of)
    print(json.dumps(laws.predictions(rows)) if as_json else "\n".join(laws.prediction_lines(rows)))


@app.command("backtest")
def backtest(
    logs: Logs,
    law: Law = "auto",
    metric: Metric = None,
    fit_until: FitUntil = None,
    horizon: Horizon = None,
    schedule: Schedule = None,
    peak: Peak = None,
    end_lr: EndRate = None,
    decay: Decay = None,
    warmup: Warmup = None,
    smooth: Smooth = 1,
    step_column: StepColumn = None,
    loss_column: LossColumn = None,
    lr_column: RateColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """How good would forecasts of finished runs have been at 20, 30 and 50% (or --fit-until)?"""
    from llmtool.commands.scaling import laws
    from llmtool.methods.temporal_scaling.look import Look

    columns = (step_column, loss_column, lr_column)
    look = Look(metric, fit_until, horizon, schedule, peak, end_lr, decay, warmup, smooth, *columns)
    rows = laws.backtest_logs(logs, look, law, options.console(quiet, verbose))
    print(json.dumps(laws.backtests(rows)) if as_json else "\n".join(laws.backtest_lines(rows)))


@app.command("compare")
def compare(
    logs: Logs,
    law: Law = "auto",
    metric: Metric = None,
    fit_until: FitUntil = None,
    horizon: Horizon = None,
    schedule: Schedule = None,
    peak: Peak = None,
    end_lr: EndRate = None,
    decay: Decay = None,
    warmup: Warmup = None,
    smooth: Smooth = 1,
    step_column: StepColumn = None,
    loss_column: LossColumn = None,
    lr_column: RateColumn = None,
    force: Annotated[bool, typer.Option("--force", help="Compare in spite of other horizons or tokenizers.")] = False,
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Which of several runs or data mixtures ends lower, and with what probability."""
    from llmtool.commands.scaling import laws
    from llmtool.methods.temporal_scaling.look import Look

    columns = (step_column, loss_column, lr_column)
    look = Look(metric, fit_until, horizon, schedule, peak, end_lr, decay, warmup, smooth, *columns)
    facts, lines = laws.compare_logs(logs, look, law, plot, options.console(quiet, verbose), force=force)
    print(json.dumps(facts) if as_json else "\n".join(lines))


@app.command("positions")
def positions(
    log: OneLog,
    metric: Metric = None,
    fit_until: FitUntil = None,
    horizon: Horizon = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """The Temporal Scaling Law over positions: its fit, its course over steps, the uniform-learning check."""
    from llmtool.commands.scaling import laws
    from llmtool.methods.temporal_scaling.look import Look

    facts = laws.positions_of(log, Look(metric, fit_until, horizon), plot)
    print(json.dumps(facts) if as_json else "\n".join(laws.position_lines(facts)))


@app.command("law")
def law(
    runs: Annotated[
        Path, typer.Argument(help="CSV of runs: params, tokens, loss (unique_tokens; or loss, batch, steps).")
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
    as_json: options.Json = False,
) -> None:
    """Fit a law over model and data sizes to many finished runs, with compute-optimal sizes."""
    from llmtool.commands.scaling import laws

    facts, lines = laws.size_law(runs, law, bootstrap, compute or [], seed, plot)
    print(json.dumps(facts) if as_json else "\n".join(lines))
