"""`llmtool scaling fit`: forecasts of logs, one law for several, and forecasts that follow a run."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.commands.scaling.settings import FitSettings
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, ExitCode, UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.methods.temporal_scaling import plot, report, saved
from llmtool.methods.temporal_scaling.fit import fit_together
from llmtool.methods.temporal_scaling.forecast import Forecast, bounds, forecast
from llmtool.methods.temporal_scaling.laws import COOLDOWN, LAWS
from llmtool.methods.temporal_scaling.logs import NotYetError, read_log
from llmtool.methods.temporal_scaling.look import Look
from llmtool.methods.temporal_scaling.report import duration

SPELLED = {
    "targets": "--target-loss", "until": "--fit-until", "shape": "--schedule", "end": "--end-lr",
}  # fmt: skip
"""Options of settings that are called otherwise."""


@dataclass(frozen=True)
class Request:
    """What to fit, and what to make of it."""

    sources: list[str]
    look: Look
    law: str = "auto"
    targets: tuple[float, ...] = ()
    figure: Path | None = None
    output: Path | None = None
    force: bool = False
    require_confident: bool = False
    largest: float | None = None
    as_json: bool = False

    def run(self) -> Run:
        """What makes the saved law what it is."""
        return Run(
            "scaling fit", {"law": self.law, "targets": list(self.targets), **asdict(self.look)}, spelled=SPELLED
        )

    def inputs(self) -> list[dict[str, Any]]:
        """The logs, as they are now."""
        return [file_entry(source) for source in self.sources]


def make_request(logs: Sequence[str], settings: FitSettings, *, as_json: bool = False) -> Request:
    """What the options ask for."""
    return Request(
        list(logs), settings.look(), settings.law, tuple(settings.target_loss), settings.plot, settings.output,
        settings.force, settings.require_confident, settings.max_predicted_loss, as_json,
    )  # fmt: skip


def run(
    request: Request, console: Console, *, joint: bool = False, follow: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:  # fmt: skip
    """Print the result; the exit status that the checks ask for. follow: seconds between looks."""
    _check(request, joint, follow is not None)
    if joint:
        facts = fit_joint(request, console)
        print(json.dumps(facts) if request.as_json else "\n".join(joint_lines(facts)))
        return _verdict([], request)
    if follow is not None:
        return _follow(request, console, follow, sleep)
    made = [forecast(each, request.law) for each in request.look.runs(request.sources, console)]
    if request.figure:
        plot.draw(made[0], request.figure)
    if request.output:
        write_law(request, saved.to_json(made[0], list(request.targets)))
    for each in made:
        if request.as_json:
            print(json.dumps(saved.to_json(each, list(request.targets))))
        else:
            print("\n".join(_lines(each, request, chart=console.verbosity >= 0)))
    return _verdict(made, request)


def forecasts(logs: Sequence[str], settings: FitSettings, console: Console) -> list[dict[str, Any]]:
    """The forecasts as objects, for callers in Python; --joint gives one for all logs."""
    request = make_request(logs, settings)
    _check(request, settings.joint, follow=False)
    if settings.joint:
        return [fit_joint(request, console)]
    made = [forecast(each, request.law) for each in request.look.runs(request.sources, console)]
    if request.figure:
        plot.draw(made[0], request.figure)
    facts = [saved.to_json(each, list(request.targets)) for each in made]
    if request.output:
        write_law(request, facts[0])
    return facts


def _check(request: Request, joint: bool, follow: bool) -> None:
    """Refuse what cannot end well before any work is done."""
    if len(request.sources) > 1 and not joint and (request.figure or request.output or follow):
        raise UserError("--plot, --output and --follow take one log", hint="`scaling compare --plot` draws several")
    if joint and (follow or request.figure or request.targets or request.require_confident):
        raise UserError("--joint goes with --law, --output and --json only")
    if follow and request.sources == ["-"]:
        raise UserError("--follow needs a file, not standard input")
    if request.output:
        refuse_overlap([path for path in (request.output, request.figure) if path], request.sources)
        try:
            claim_file(request.output, request.run(), read=request.sources, force=request.force, found=request.inputs)
        except CompleteError:
            if request.figure is None or request.figure.exists():
                raise
    claim_figure(request.figure, read=request.sources, force=request.force)


def write_law(request: Request, facts: dict[str, Any]) -> None:
    """The law and what it was made from, whole."""
    if request.output is None:
        return
    run = request.run()
    run.inputs = request.inputs()
    with atomic_files() as files:
        files.open(request.output).write(dumps(facts, indent=1).encode() + b"\n")
        run.save(manifest_path(request.output), [request.output], files)


def _lines(made: Forecast, request: Request, chart: bool) -> Iterator[str]:
    yield from report.lines(made, request.targets)
    if chart:
        yield from report.chart(made)


def _verdict(made: list[Forecast], request: Request) -> int:
    doubtful = request.require_confident and not all(each.confident for each in made)
    high = request.largest is not None and any(each.final.value > request.largest for each in made)
    return int(ExitCode.CHECK_FAILED if doubtful or high else ExitCode.OK)


def fit_joint(request: Request, console: Console) -> dict[str, Any]:
    """One law for several runs that differ in their schedules only; finished ones unless told otherwise."""
    look = request.look
    law = LAWS.get(COOLDOWN.name if request.law == "auto" else request.law)
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
    if request.output:
        write_law(request, facts)
    return facts


def joint_lines(facts: dict[str, Any]) -> Iterator[str]:
    """The joint fit for people."""
    yield f"{facts['law']}: {facts['formula']}, one set of parameters"
    yield "  " + ", ".join(f"{name} {value:.4g}" for name, value in facts["parameters"].items())
    for row in facts["runs"]:
        yield f"  {row['log']}: MAPE {row['mape']:.3f}%, final loss {row['final_loss']['value']:.4f}"


def _follow(request: Request, console: Console, every: float, sleep: Callable[[float], None]) -> int:
    """Forecast again whenever the log has grown, until its last step is the horizon; a line each time."""
    source, seen, look = request.sources[0], -1.0, request.look
    made: list[Forecast] = []
    while True:
        try:
            each = look.run(read_log(source, look.chosen))
            last = float(each.steps[-1])
            if last > seen:
                seen = last
                made = [forecast(each, request.law)]
                _show_followed(made[0], request)
            if last >= each.horizon:
                return _verdict(made, request)
        except NotYetError as refusal:
            console.info(f"not yet: {refusal}")
        sleep(every)


def _show_followed(made: Forecast, request: Request) -> None:
    facts = saved.to_json(made, list(request.targets))
    if request.as_json:
        print(json.dumps(facts), flush=True)
    else:
        left = made.run.seconds(made.run.horizon)
        ahead = f", {duration(left)} to go" if left else ""
        doubt = "" if made.confident else f"  NOT CONFIDENT: {'; '.join(made.doubts)}"
        final = report.span(made.final)
        print(f"step {made.run.until:,.0f} of {made.run.horizon:,.0f}{ahead}: final loss {final}{doubt}", flush=True)
    if request.figure:
        plot.draw(made, request.figure)
    if request.output:
        write_law(request, facts)
