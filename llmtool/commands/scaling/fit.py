"""`llmtool scaling fit`: forecasts of logs, and one law for several; follow.py watches a run."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from llmtool.commands.scaling.follow import follow_run, words_of
from llmtool.commands.scaling.request import Request, verdict, write_law
from llmtool.commands.scaling.settings import FitSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.core.run.page import Page, unfinished
from llmtool.methods.temporal_scaling import plot, report, saved
from llmtool.methods.temporal_scaling.fit import fit_together
from llmtool.methods.temporal_scaling.forecast import Forecast, bounds, forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN, LAWS

__all__ = ["Request", "forecasts", "make_request", "run"]


def make_request(logs: Sequence[str], settings: FitSettings, *, as_json: bool = False) -> Request:
    """What the options ask for."""
    return Request(list(logs), settings, as_json)


def run(request: Request, console: Console, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Print the result; the exit status that the checks ask for. A page keeps the lines where JSON is printed."""
    asked = request.asked
    _check(request, asked.joint, asked.follow, console)
    if asked.joint:
        facts = fit_joint(request, console)
        if not request.as_json or isinstance(console, Page):
            console.result(joint_lines(facts))
        if request.as_json:
            print(dumps(facts))
        return verdict([], request)
    if asked.follow:
        return follow_run(request, console, asked.every, sleep)
    made = _made(request, console)
    if asked.plot:
        plot.draw(made[0], asked.plot)
    if asked.output:
        write_law(request, saved.to_json(made[0], list(asked.target_loss)))
    for each in made:
        if request.as_json:
            print(dumps(saved.to_json(each, list(asked.target_loss))))
        if not request.as_json or isinstance(console, Page):
            console.result(_lines(each, request, chart=console.verbosity >= 0))
    return verdict(made, request)


def forecasts(logs: Sequence[str], settings: FitSettings, console: Console) -> list[dict[str, Any]]:
    """The forecasts as objects, for callers in Python; --joint gives one for all logs."""
    request = make_request(logs, settings)
    _check(request, settings.joint, False, console)
    if settings.joint:
        return [fit_joint(request, console)]
    made = _made(request, console)
    if request.asked.plot:
        plot.draw(made[0], request.asked.plot)
    facts = [saved.to_json(each, list(request.asked.target_loss)) for each in made]
    if request.asked.output:
        write_law(request, facts[0])
    return facts


def _made(request: Request, console: Console) -> list[Forecast]:
    asked = request.asked
    pairs = request.look.runs_with_earlier(request.sources, asked.like, console)
    return [forecast(run, asked.law, earlier) for run, earlier in pairs]


def _check(request: Request, joint: bool, follow: bool, console: Console) -> None:
    """Refuse what cannot end well before any work is done."""
    if not follow and (request.asked.stop or request.asked.notify):
        raise UserError("--stop and --notify belong to --follow")
    if request.asked.notify:
        words_of(request.asked.notify)
    if request.asked.max_predicted_loss is None and (request.asked.stop or request.asked.certainty is not None):
        raise UserError("--certainty and --stop need --max-predicted-loss")
    if len(request.sources) > 1 and not joint and (request.asked.plot or request.asked.output or follow):
        raise UserError("--plot, --output and --follow take one log", hint="`scaling compare --plot` draws several")
    asked = request.asked
    if joint and (follow or asked.plot or asked.target_loss or asked.require_confident or asked.like):
        raise UserError("--joint goes with --law, --output and --json only")
    if follow and request.sources == ["-"]:
        raise UserError("--follow needs a file, not standard input")
    if request.asked.output:
        refuse_overlap([path for path in (request.asked.output, request.asked.plot) if path], request.read)
        try:
            claim_file(
                request.asked.output,
                request.run,
                read=request.read,
                force=request.asked.force,
                found=request.inputs,
            )
        except CompleteError:
            if not unfinished(console, request.asked.plot):
                raise
    claim_figure(request.asked.plot, read=request.read, force=request.asked.force)


def _lines(made: Forecast, request: Request, chart: bool) -> Iterator[str]:
    yield from report.lines(made, request.asked.target_loss)
    if chart:
        yield from report.chart(made)


def fit_joint(request: Request, console: Console) -> dict[str, Any]:
    """One law for several runs that differ in their schedules only; finished ones unless told otherwise."""
    look = request.look
    law = LAWS.get(COOLDOWN.name if request.asked.law == "auto" else request.asked.law)
    if len(request.sources) < 2 or law is None or not law.needs_schedule:
        raise UserError("--joint takes two or more logs and a law that knows the rate", hint="cooldown, mpl, annealing")
    runs = look.runs(request.sources, console, None if look.horizon or look.until else "100%")
    parts = []
    for each in runs:
        if each.schedule is None:
            raise UserError("has no learning rate, which --joint needs", where=each.log.name)
        parts.append((*each.seen(), each.horizon, each.schedule))
    fits = fit_together(law, parts)
    rows = []
    for each, fitted in zip(runs, fits, strict=True):
        steps, loss = each.seen()
        final = saved.interval_to_json(bounds(fitted, each.horizon, 1.0))
        error = 100 * float(np.abs(fitted.predict(steps) / loss - 1).mean())
        rows.append({"log": each.log.name, "mape": error, "final_loss": final})
    facts = {
        "schema": saved.SCHEMA, "law": law.name, "formula": law.formula, "parameters": fits[0].parameters(),
        "runs": rows, "fit": saved.fit_to_json(fits[0], 1.0),
    }  # fmt: skip
    if request.asked.output:
        write_law(request, facts)
    return facts


def joint_lines(facts: dict[str, Any]) -> Iterator[str]:
    """The joint fit for people."""
    yield f"{facts['law']}: {facts['formula']}, one set of parameters"
    yield "  " + ", ".join(f"{name} {value:.4g}" for name, value in facts["parameters"].items())
    for row in facts["runs"]:
        yield f"  {row['log']}: MAPE {row['mape']:.3f}%, final loss {row['final_loss']['value']:.4f}"
