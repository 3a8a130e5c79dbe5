"""`llmtool scaling fit --follow`: forecast again whenever the log has grown, and raise alarms."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.commands.scaling.request import Request, verdict, write_law
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ExitCode, UserError
from llmtool.core.run.json_file import dumps
from llmtool.methods.temporal_scaling import alarms, plot, report, saved
from llmtool.methods.temporal_scaling.alarms import Alarm, odds_above
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.logs import NotYetError, read_log
from llmtool.methods.temporal_scaling.run import Run

CERTAIN = 0.9
"""P(final loss > bar) from which a run is said to miss its bar, unless --certainty says otherwise."""
NOTIFY_SECONDS = 60.0
ROWS = 11
"""Last rows of a log that tell how far its rows lie apart."""
NOTHING = (-1.0, None)
"""The last step seen, and the first one without a number."""


def follow_run(request: Request, console: Console, every: float, sleep: Callable[[float], None]) -> int:
    """Look until the log reaches the horizon, or with --stop until the bar is out of reach; the exit status."""
    follower = Follower(request, console)
    try:
        while (status := follower.look()) is None:
            sleep(every)
        return status
    finally:
        follower.line.keep()


class LiveLine:
    """The latest forecast on one line, whose place the next one takes at a terminal; elsewhere a line each."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.pending = False

    def show(self, text: str) -> None:
        """Put a line in the place of the last one."""
        if not self.live:
            print(text, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{text if len(text) <= width else text[: width - 1] + '…'}", end="", flush=True)
        self.pending = True

    def keep(self) -> None:
        """Let the line stand, before something else is written and at the end."""
        if self.pending:
            print(flush=True)
            self.pending = False


class Follower:
    """One log that grows: what was seen of it, and the alarms that were told."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request, self.console, self.line = request, console, LiveLine()
        self.like = request.look.finished(request.asked.like, console, request.sources[0])
        self.seen: tuple[float, float | None] = NOTHING
        self.waiting = False
        self.made: list[Forecast] = []
        self.told: set[tuple[str, float]] = set()

    def look(self) -> int | None:
        """Forecast again if the log has grown; the exit status, once there is nothing left to wait for."""
        if self._is_to_come():
            return None
        try:
            run = alarms.awaited(self.request.look.run(read_log(self.request.sources[0], self.request.look.chosen)))
            last, since = float(run.steps[-1]), run.log.broken_from
            grown = last > self.seen[0] or since != self.seen[1]
            self.seen = max(self.seen[0], last), since
            if grown:
                self._tell(alarms.of_run(run))
                self.made = [forecast(run, self.request.asked.law, self.like)]
        except NotYetError as refusal:
            self.line.keep()
            self.console.info(f"not yet: {refusal}")
            return None
        except UserError as refusal:
            # What was refused from the first is an error of the command; a run that was watched may still mend itself.
            if not self.made:
                raise
            self.seen = NOTHING  # the next look forecasts again
            what = str(UserError(refusal.what, hint=refusal.hint))
            self._tell([Alarm(f"refused {re.sub(r'[0-9]', '', what)}", 0.0, what)])
            return None
        if grown:
            self._show(self.made[0])
            if self._misses(self.made[0]) and self.request.asked.stop:
                return int(ExitCode.CHECK_FAILED)
        if _over(run):
            self.line.keep()
            return verdict(self.made, self.request)
        return None

    def _is_to_come(self) -> bool:
        """Whether the log is not there yet, in a directory that is; said once."""
        source = Path(self.request.sources[0])
        if self.made or source.exists() or not source.absolute().parent.is_dir():
            return False
        if not self.waiting:
            self.console.info(f"waiting for {source}")
        self.waiting = True
        return True

    def _misses(self, made: Forecast) -> bool:
        """Whether the run ends above --max-predicted-loss with the certainty asked for; told once."""
        bar, certainty = self.request.asked.max_predicted_loss, self.request.asked.certainty
        if bar is None:
            return False
        odds = odds_above(made, bar)
        if odds < (CERTAIN if certainty is None else certainty):
            return False
        self._tell([Alarm("bar", bar, f"P(final loss > {bar:g}) = {odds:.2f}")])
        return True

    def _tell(self, found: list[Alarm]) -> None:
        """Each alarm once: to the console, and to --notify, whose last argument it is."""
        for alarm in found:
            if alarm.key in self.told:
                continue
            self.told.add(alarm.key)
            self.line.keep()
            text = f"{self.request.sources[0]}: {alarm.text}"
            self.console.warn(text)
            if self.request.asked.notify:
                _notify(self.request.asked.notify, text, self.console)

    def _show(self, made: Forecast) -> None:
        facts: dict[str, Any] = saved.to_json(made, list(self.request.asked.target_loss))
        if self.request.asked.max_predicted_loss is not None:
            facts["probability_above"] = odds_above(made, self.request.asked.max_predicted_loss)
        if self.request.as_json:
            print(dumps(facts), flush=True)
        else:
            self.line.show(_line(made, self.request))
        if self.request.asked.plot:
            plot.draw(made, self.request.asked.plot)
        if self.request.asked.output:
            write_law(self.request, facts)


def _over(run: Run) -> bool:
    """Whether no row is to come: the log says so, its last one is at the horizon, or the next would lie beyond it."""
    if run.log.ended or run.open_end or run.goes_on is not None:
        return run.log.ended
    steps = run.log.losses[run.metric].steps
    gap = float(np.median(np.diff(steps[-ROWS:]))) if len(steps) > 1 else 0.0
    return float(steps[-1]) >= run.horizon or float(steps[-1]) + gap > run.horizon + 0.01 * gap


def words_of(command: str) -> list[str]:
    """The words of --notify."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UserError(f"--notify {command}: {str(error).lower()}") from None


def _notify(command: str, text: str, console: Console) -> None:
    words = words_of(command)
    try:
        done = subprocess.run([*words, text], check=False, timeout=NOTIFY_SECONDS, stdout=subprocess.DEVNULL)
        if done.returncode:
            console.warn(f"--notify {words[0]} ended with status {done.returncode}")
    except (OSError, subprocess.TimeoutExpired, IndexError) as error:
        console.warn(f"--notify {command}: {error}")


def _line(made: Forecast, request: Request) -> str:
    text = report.brief(made)
    if request.asked.max_predicted_loss is not None and not made.run.open_end:
        text += (
            f", P(above {request.asked.max_predicted_loss:g}) {odds_above(made, request.asked.max_predicted_loss):.2f}"
        )
    return text + ("" if made.confident else f"  NOT CONFIDENT: {'; '.join(made.doubts)}")
