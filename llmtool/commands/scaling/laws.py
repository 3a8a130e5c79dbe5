"""`llmtool scaling` predict, backtest, compare, positions and law, callable from Python with the same names."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.commands.scaling.settings import CompareSettings, PositionsSettings, PredictSettings, SizeSettings
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.core.run.page import unfinished
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling import (
    across_runs,
    comparison,
    critical_batch,
    plot,
    plot_comparison,
    plot_sizes,
    positions,
    saved,
    size_doubts,
    size_report,
    size_table,
)
from llmtool.methods.temporal_scaling.forecast import bounds, forecast
from llmtool.methods.temporal_scaling.intervals import interval_score
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.logs.numbers import number
from llmtool.methods.temporal_scaling.look import Look

ORIGINS = ("20%", "30%", "50%")
OF_RUNS = ("at", "schedule", "schedule_of", "peak", "end_lr", "decay", "warmup", "horizon")
"""What is asked of the fit of a run alone."""


def predict_fit(path: Path, steps: Sequence[float], look: Look, schedule_of: str | None) -> list[dict[str, float]]:
    """Losses of a saved fit at some steps, under its own schedule or another."""
    fitted, surprise = saved.load(path)
    if schedule_of is not None:
        schedule = Look(until="100%", horizon=look.horizon).run(read_log(schedule_of)).schedule
        if schedule is None:
            raise UserError("has no learning rate", where=schedule_of)
        fitted = saved.elsewhere(fitted, schedule)
    elif (plan := look.plan()) is not None:
        warmup = look.warmup if look.warmup is not None else fitted.schedule.warmup if fitted.schedule else 0.0
        fitted = saved.elsewhere(fitted, plan.schedule(look.horizon or fitted.horizon, warmup))
    rows = []
    for step in steps or [fitted.horizon]:
        if not 0 < step <= fitted.horizon:
            raise UserError(f"step {step:g} lies outside the run, whose horizon is {fitted.horizon:g}",
                            hint="give --schedule and --horizon for a longer one")  # fmt: skip
        with np.errstate(all="ignore"):
            rows.append({"step": step, **saved.interval_to_json(bounds(fitted, step, surprise))})
    saved.refuse_no_number(rows, str(path))
    return rows


def predictions(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Predictions as an object."""
    return {"schema": "llmtool.scaling-predict/1", "predictions": list(rows)}


def prediction_lines(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    """Predictions for people, of a run at some steps."""
    yield f"{'step':>12}  {'loss':>8}  90% interval"
    for row in rows:
        yield f"{row['step']:>12,.0f}  {row['value']:>8.4f}  [{row['low']:.4f}, {row['high']:.4f}]"


def backtest_logs(
    sources: Sequence[str], look: Look, law: str, console: Console, like: Sequence[str]
) -> list[dict[str, Any]]:
    """How good a forecast of a finished run would have been at 20, 30 and 50%; like: runs to learn from, of which one
    that is the log itself is left out."""
    rows = []
    for source in sources:
        log = read_log(source, look.chosen)
        others = look.finished(like, QUIET, source)
        for origin in ORIGINS if look.until is None else (look.until,):
            run = look.run(log, origin)
            truth = float(run.loss[run.steps >= run.begin + 0.98 * (run.horizon - run.begin)].mean())
            row: dict[str, Any] = {"log": source, "fit_until": origin, "truth": truth}
            try:
                made = forecast(run, law, others)
            except UserError as refusal:
                rows.append({**row, "refused": str(refusal)})
                continue
            final = made.final
            still = run.last_value / truth - 1
            rows.append({
                **row, "law": made.fit.name, "predicted": saved.interval_to_json(final),
                "error": final.value / truth - 1, "error_of_last_value": still, "confident": made.confident,
                "covered": final.low <= truth <= final.high,
                "interval_score": interval_score(final.low, final.high, truth),
            })  # fmt: skip
            console.detail(f"{source} at {origin}: {made.why}")
    return rows


def backtests(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Back-tests as an object, with the figures over all of them."""
    made = [row for row in rows if "error" in row]
    errors = [abs(row["error"]) for row in made]
    summary = {
        "median_error": float(np.median(errors)) if made else None,
        "largest_error": max(errors) if made else None,
        "coverage": float(np.mean([row["covered"] for row in made])) if made else None,
        "interval_score": float(np.mean([row["interval_score"] for row in made])) if made else None,
    }
    return {"schema": "llmtool.scaling-backtest/1", **summary, "forecasts": list(rows)}


def backtest_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The back-tests for people."""
    width = max(len(row["log"]) for row in rows)
    heads = f"{'until':>6}{'truth':>9}{'predicted':>11}{'error':>9}{'last value':>12}  90% interval, law"
    yield f"{'log':<{width}}  {heads}"
    for row in rows:
        start = f"{row['log']:<{width}}  {row['fit_until']:>6}{row['truth']:>9.4f}"
        if "refused" in row:
            yield f"{start}  refused: {row['refused'].removeprefix(row['log'] + ': ')}"
            continue
        made = row["predicted"]
        text = f"{start}{made['value']:>11.4f}{100 * row['error']:>8.2f}%{100 * row['error_of_last_value']:>11.2f}%"
        text += f"  [{made['low']:.4f}, {made['high']:.4f}] {row['law']}"
        yield text + ("" if row["covered"] else ", missed") + ("" if row["confident"] else ", not confident")


def compare_logs(
    sources: Sequence[str], settings: CompareSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> tuple[dict[str, Any], list[str]]:
    """Which of several runs ends lower: the result as an object, and in lines. force: other horizons are told only."""
    if len(sources) < 2:
        raise UserError("a comparison needs two or more logs")
    asked = CompareSettings.of(settings, named_settings)
    claim_figure(asked.plot, read=[*sources, *asked.like], force=asked.force)
    pairs = asked.look().runs_with_earlier(sources, asked.like, console)
    forecasts = [forecast(run, asked.law, earlier) for run, earlier in pairs]
    comparison.require_comparable(forecasts, console, force=asked.force)
    compared = comparison.compared(forecasts)
    if asked.plot:
        plot_comparison.draw(compared, asked.plot)
    return comparison.to_json(compared), comparison.lines(compared)


def positions_of(source: str, asked: PositionsSettings) -> list[dict[str, Any]]:
    """The law over positions of a log, an object for each evaluation set: its fit, its regression over steps, the
    uniform-learning check. Without --set, the one set that is found."""
    look, figure, sets = asked.look(), asked.plot, asked.set
    claim_figure(figure, read=[source], force=asked.force)
    if sets and look.metric:
        raise UserError("--metric names one set and --set several: give one of the two")
    log = read_log(source, look.chosen)
    facts, drawn = [], []
    wanted: Sequence[str | None] = list(sets) or [look.metric]
    for name in wanted:
        run = replace(look, metric=name).run(log, look.until or "100%")
        if run.metric not in run.log.positions:
            held = ", ".join(run.log.positions) or "none"
            raise UserError(f"holds no losses by position of {run.metric!r}; sets that have them: {held}",
                            where=source, hint="log a list pos_NAME at each evaluation")  # fmt: skip
        steps, losses = run.seen_at_positions()
        fitted, shapes = positions.TemporalLaw().fit(run), positions.hyperbolas(steps, losses)
        drawn.append((run.metric, fitted, shapes, losses))
        tail = max(1, len(steps) // 10)
        facts.append({
            "schema": "llmtool.scaling-positions/1", "log": source, "metric": run.metric,
            "positions": losses.shape[1], "steps": len(steps), "k": shapes.k, "r2_over_positions": shapes.r2,
            "common_noise": shapes.common_share, "regressors": list(positions.FORMS[fitted.form]),
            "r2_over_steps": positions.regression_r2(fitted, shapes), "parameters": fitted.parameters(),
            "learned_by_quarter": positions.uniformity(shapes, losses),
            "last_tenth_error": 100 * float((fitted.predict(steps[-tail:]) / losses[-tail:].mean(axis=1) - 1).mean()),
            "final_loss_of_law": float(fitted.predict(np.array([run.horizon]))[0]),
        })  # fmt: skip
    if figure:
        plot.draw_positions(drawn, figure)
    return facts


def position_lines(facts: dict[str, Any]) -> Iterator[str]:
    """The law over positions for people."""
    evaluations = counted(facts["steps"], "evaluation")
    yield f"{facts['log']}: {facts['metric']} loss at {counted(facts['positions'], 'position')}, {evaluations}"
    yield f"  L_i = a2 + g / (i + k), k = {facts['k']:.3f}; R2 over positions {facts['r2_over_positions']:.3f}"
    yield f"  {100 * facts['common_noise']:.0f}% of what it misses is the same at every step (the evaluation's texts)"
    r2 = facts["r2_over_steps"]
    yield f"  g and a2 on {', '.join(facts['regressors'])}: R2 {r2['g']:.3f} and {r2['a2']:.3f}"
    quarters = "  ".join(f"{value:.2f}" for value in facts["learned_by_quarter"])
    missed = f"the last tenth of the evaluations is missed by {facts['last_tenth_error']:+.2f}%"
    yield f"  loss at the horizon by this law: {facts['final_loss_of_law']:.4f}; {missed}"
    yield f"  learned in the second half, by quarter of the positions over the mean: {quarters} (1: uniformly)"


def size_law(
    path: Path, settings: SizeSettings | None = None, **named_settings: Any
) -> tuple[dict[str, Any], list[str]]:
    """A law over many runs: the result as an object, and in lines; saved for `predict_size` where output is named."""
    asked = SizeSettings.of(settings, named_settings)
    law, compute, figure, output = asked.law, asked.compute, asked.plot, asked.output
    by_hand = {"params": asked.params_column, "tokens": asked.tokens_column, "loss": asked.loss_column}
    named = {key: name for key, name in by_hand.items() if name is not None}
    run = Run("scaling law", {"law": law, "bootstrap": asked.bootstrap, "compute": list(compute), "seed": asked.seed,
                              "columns": named})  # fmt: skip
    if output is not None:
        try:
            claim_file(output, run, read=[path], force=asked.force, found=lambda: [file_entry(path)])
        except CompleteError:
            if not unfinished(QUIET, figure):
                raise
    claim_figure(figure, read=[path], force=asked.force)
    if figure is not None and output is not None:
        refuse_overlap([output, figure], ())
    if law == critical_batch.NAME:
        if figure or compute or output or named:
            raise UserError(f"--plot, --compute, --output and columns by name do not go with --law {law}")
        facts = critical_batch.to_json(critical_batch.read_batches(path))
        return facts, list(critical_batch.lines(facts))
    chosen = across_runs.SIZE_LAWS[law]
    table = size_table.read_table(path, need_unique=chosen is across_runs.DATA_CONSTRAINED, chosen=named)
    size_doubts.require_identifiable(table)
    theta = across_runs.fit_sizes(chosen, table)
    draws = across_runs.bootstrap(chosen, table, theta, asked.bootstrap, asked.seed)
    facts = size_report.to_json(chosen, table, theta, draws, compute)
    run.inputs = [file_entry(path)]
    with atomic_files() as files:  # a law and its figure appear together
        if output is not None:
            files.open(output).write(dumps(facts, indent=1).encode() + b"\n")
            run.save(manifest_path(output), [output], files)
        if figure:
            plot_sizes.draw(chosen, table, theta, draws, figure, files)
    shown = {name: value for name, value in facts.items() if name != "fit"}
    return shown, list(size_report.lines(facts))


def is_size_law(path: Path) -> bool:
    """Whether a file holds a law over sizes, which `size_law` saved."""
    return bool(read_json_object(path).get("schema") == size_report.SCHEMA)


def refuse_of_runs(asked: PredictSettings, path: Path) -> None:
    """A law over sizes knows no steps and no rate."""
    given = [name for name in OF_RUNS if getattr(asked, name) not in (None, ())]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"is a law over sizes, which {flags} {'does' if len(given) == 1 else 'do'} not go with",
                        where=str(path), hint="--params N and --tokens D ask it")  # fmt: skip


def predict_size(path: Path, params: str | None, tokens: str | None, unique: str | None = None) -> dict[str, Any]:
    """The loss at a size such as 7B and a number of tokens such as 1T, under a law over sizes that was saved.

    unique: how many of the tokens are, under a law for repeated data; all of them if not given.
    """
    facts = read_json_object(path)
    if facts.get("schema") != size_report.SCHEMA:
        raise UserError(
            "not a saved law over sizes", where=str(path), hint="written by: llmtool scaling law RUNS -o FILE"
        )
    asked = {"--params": params, "--tokens": tokens}
    if missing := [flag for flag, text in asked.items() if text is None]:
        are = "is missing" if len(missing) == 1 else "are missing"
        raise UserError(f"{' and '.join(missing)} {are}", where=str(path),
                        hint="a law over sizes needs --params, such as 7B, and --tokens, such as 1T")  # fmt: skip
    if unique is not None and facts.get("law") != across_runs.DATA_CONSTRAINED.name:
        raise UserError("is no law for repeated data, which --unique asks", where=str(path),
                        hint="written by: llmtool scaling law RUNS --law data-constrained -o FILE")  # fmt: skip
    amounts = []
    for flag, text in (asked if unique is None else {**asked, "--unique": unique}).items():
        value = number(text)
        if value is None or not 0 < value < 1e30:
            raise UserError(f"{flag} {text}: not a number such as 7B")
        amounts.append(value)
    if len(amounts) > 2 and amounts[2] > amounts[1]:
        raise UserError(f"--unique {unique}: more than --tokens {tokens}")
    return size_report.predict_saved(facts, *amounts, where=str(path))


def size_prediction_lines(facts: dict[str, Any]) -> Iterator[str]:
    """A prediction at a size for people."""
    row = facts["predictions"][0]
    size = f"{row['params']:.4g} parameters, {row['tokens']:.4g} tokens"
    size += f", {row['unique']:.4g} of them unique" if "unique" in row else ""
    yield f"{size}: loss {row['value']:.4f}  [{row['low']:.4f}, {row['high']:.4f}]"
    yield from (f"  NOT CONFIDENT: {doubt}" for doubt in facts["doubts"])
