"""`llmtool scaling fit --follow`: forecast again whenever the log has grown, and raise alarms."""

import shlex
import subprocess
from collections.abc import Callable
from typing import Any

from llmtool.commands.scaling.request import Request, verdict, write_law
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ExitCode, UserError
from llmtool.core.run.json_file import dumps
from llmtool.methods.temporal_scaling import alarms, plot, report, saved
from llmtool.methods.temporal_scaling.alarms import Alarm, odds_above
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.logs import NotYetError, read_log
from llmtool.methods.temporal_scaling.report import duration
from llmtool.methods.temporal_scaling.run import Run

CERTAIN = 0.9
"""P(final loss > bar) from which a run is said to miss its bar, unless --certainty says otherwise."""
NOTIFY_SECONDS = 60.0


def follow_run(request: Request, console: Console, every: float, sleep: Callable[[float], None]) -> int:
    """A line for each look, until the log reaches the horizon, or with --stop until the bar is out of reach."""
    source, seen, look = request.sources[0], -1.0, request.look
    made: list[Forecast] = []
    raised: set[tuple[str, float]] = set()
    while True:
        try:
            run = look.run(read_log(source, look.chosen))
            last = float(run.steps[-1])
            grown, seen = last > seen or run.log.broken_from is not None, max(seen, last)
            if grown:
                _tell(alarms.of_run(run), raised, request, console)
                made = [forecast(run, request.asked.law)]
                _show(made[0], request)
                if _misses(made[0], raised, request, console) and request.asked.stop:
                    return int(ExitCode.CHECK_FAILED)
            if _over(run, last):
                return verdict(made, request)
        except NotYetError as refusal:
            console.info(f"not yet: {refusal}")
        sleep(every)


def _over(run: Run, last: float) -> bool:
    return not run.open_end and last >= run.horizon


def _misses(made: Forecast, raised: set[tuple[str, float]], request: Request, console: Console) -> bool:
    """Whether the run ends above --max-predicted-loss with the certainty asked for; told once."""
    if request.asked.max_predicted_loss is None:
        return False
    odds = odds_above(made, request.asked.max_predicted_loss)
    if odds < (CERTAIN if request.asked.certainty is None else request.asked.certainty):
        return False
    text = f"P(final loss > {request.asked.max_predicted_loss:g}) = {odds:.2f}"
    _tell([Alarm("bar", request.asked.max_predicted_loss, text)], raised, request, console)
    return True


def _tell(found: list[Alarm], raised: set[tuple[str, float]], request: Request, console: Console) -> None:
    """Each alarm once: to the console, and to --notify, whose last argument it is."""
    for alarm in found:
        key = (alarm.kind, alarm.step if alarm.kind in ("spike", "bar") else 0.0)
        if key in raised:
            continue
        raised.add(key)
        console.warn(f"{request.sources[0]}: {alarm.text}")
        if request.asked.notify:
            _notify(request.asked.notify, f"{request.sources[0]}: {alarm.text}", console)


def _notify(command: str, text: str, console: Console) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--notify {command}: {error}") from None
    try:
        done = subprocess.run([*words, text], check=False, timeout=NOTIFY_SECONDS, stdout=subprocess.DEVNULL)
        if done.returncode:
            console.warn(f"--notify {words[0]} ended with status {done.returncode}")
    except (OSError, subprocess.TimeoutExpired, IndexError) as error:
        console.warn(f"--notify {command}: {error}")


def _show(made: Forecast, request: Request) -> None:
    facts: dict[str, Any] = saved.to_json(made, list(request.asked.target_loss))
    if request.asked.max_predicted_loss is not None:
        facts["probability_above"] = odds_above(made, request.asked.max_predicted_loss)
    if request.as_json:
        print(dumps(facts), flush=True)
    else:
        print(_line(made, request), flush=True)
    if request.asked.plot:
        plot.draw(made, request.asked.plot)
    if request.asked.output:
        write_law(request, facts)


def _line(made: Forecast, request: Request) -> str:
    run = made.run
    if run.open_end:
        step = run.ahead[0]
        text = f"step {run.until:,.0f}: loss {report.span(made.at(step))} at {step:,.0f}"
    else:
        left = run.seconds(run.horizon)
        ahead = f", {duration(left)} to go" if left else ""
        text = f"step {run.until:,.0f} of {run.horizon:,.0f}{ahead}: final loss {report.span(made.final)}"
    if request.asked.max_predicted_loss is not None and not run.open_end:
        text += (
            f", P(above {request.asked.max_predicted_loss:g}) {odds_above(made, request.asked.max_predicted_loss):.2f}"
        )
    return text + ("" if made.confident else f"  NOT CONFIDENT: {'; '.join(made.doubts)}")
