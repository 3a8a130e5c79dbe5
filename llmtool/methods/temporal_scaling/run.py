"""A run as it is fitted: the points between the cut and `until`, the schedule, the horizon."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import find_real
from llmtool.methods.temporal_scaling.ending import End, find_end
from llmtool.methods.temporal_scaling.levels import Change, changes, levels, rise
from llmtool.methods.temporal_scaling.logs.log import Log
from llmtool.methods.temporal_scaling.points import noise
from llmtool.methods.temporal_scaling.schedule import FLAT, Plan, Schedule, from_log

Array = NDArray[np.float64]
WARMUPS = 1.0
SPAN = 30.0
"""What is fitted begins at the end of the warm-up, and at this share of the last step looked at."""
AHEAD = (2.0, 5.0, 10.0)
FIRST_STEPS = 1500.0
"""Updates before which the laws do not hold yet: the loss still falls by what no power of the step describes."""
FIRST_ERROR = 0.03
"""Relative sd for each factor e that the last step looked at lies below FIRST_STEPS. Twelve tiny runs of ours, whose
loss was forecast 4% too high from 360 steps and 3% from 600 (docs/results/temporal_scaling), gave it; no other project
has runs as short."""
FRESH = 1.2
"""The first loss over the last one of a run from scratch, at the least: 1.26 to 1.7 where little was looked at. A model
that is trained on begins where it was, and is past what FIRST_STEPS is about."""
END = 0.02
"""Share of a run whose mean loss is its final loss."""
LATE = 0.5
"""A log whose first loss lies beyond this share of the last step that is planned is of a run that was continued: shares
are of what it holds. Nothing was ever logged of the other one."""
MISSING = 1000.0
"""So is one that lacks so many rows before its first: that stays as it is however far the run has come."""
FIRST_ROWS = 11
"""Rows that tell how far rows lie apart."""


@dataclass(frozen=True)
class Run:
    """Steps and losses of one metric, all of them; `cut` and `until` bound what may be fitted.

    cut: the end of the warm-up, or a thirtieth of what is looked at, whichever is later. open_end: the end of
    the run is not known, and the horizon is the last of the steps ahead. changes: jumps of the loss in what may be
    looked at. goes_on, goes_to, low, supposed: see End; the horizon is goes_on where it is supposed. begin: the step
    from which shares of the run are counted: 0, or the first one of a run that was continued.
    """

    log: Log
    metric: str
    steps: Array
    loss: Array
    schedule: Schedule | None
    horizon: float
    cut: float
    until: float
    open_end: bool = False
    changes: tuple[Change, ...] = ()
    goes_on: float | None = None
    goes_to: float = 0.0
    low: float | None = None
    supposed: bool = False
    begin: float = 0.0

    @property
    def share(self) -> float:
        """How much of the run may be looked at, from `begin` to the horizon."""
        return (self.until - self.begin) / max(self.horizon - self.begin, 1e-9)

    @property
    def finished(self) -> bool:
        """Whether the last step is among those looked at, so that nothing is left to forecast."""
        return not self.open_end and (self.share >= 0.999 or self.until >= self.horizon)

    @property
    def left_out(self) -> int:
        """Rows of the log beyond the horizon, which was given."""
        return int((self.log.losses[self.metric].steps > self.horizon).sum())

    @property
    def axis(self) -> str:
        """What one of its steps is called."""
        return self.log.axis

    @property
    def going_on(self) -> "Run":
        """The same run to the step goes_on, which must not be None."""
        assert self.goes_on is not None
        assert self.schedule is not None
        if self.supposed:
            schedule = replace(self.schedule, assumed=None)
        else:
            schedule = self.schedule.going_on(self.goes_on, self.goes_to)
        return replace(self, horizon=self.goes_on, schedule=schedule, goes_on=None)

    @property
    def ahead(self) -> tuple[float, ...]:
        """Steps to tell the loss of: multiples of the last one, where the end of the run is not known."""
        return tuple(_ahead(self.begin, self.until, times) for times in AHEAD) if self.open_end else ()

    def logged(self, last: float | None = None) -> tuple[Array, Array]:
        """Steps and losses that may be looked at, up to `last` if it is given, as they were logged."""
        keep = (self.steps >= self.cut) & (self.steps <= min(self.until, last or self.until))
        return self.steps[keep], self.loss[keep]

    def seen(self, last: float | None = None) -> tuple[Array, Array]:
        """The same, the losses at the level that they have after the last jump: what laws are fitted to."""
        steps, loss = self.logged(last)
        return steps, loss / levels(steps, self.changes)

    def level(self, steps: Array) -> Array:
        """The logged loss at some steps over what it would be at the level after the last jump."""
        return levels(steps, self.changes)

    def seen_at_positions(self, last: float | None = None) -> tuple[Array, Array]:
        """Steps, and losses by position [steps, positions], that may be looked at."""
        series = self.log.positions[self.metric]
        keep = (series.steps >= self.cut) & (series.steps <= min(self.until, last or self.until))
        return series.steps[keep], series.values[keep]

    @property
    def youth(self) -> float:
        """Relative sd of a forecast from the first steps of a run from scratch; 0 beyond them, and where the axis does
        not count updates."""
        fresh = self.loss[0] > FRESH * self.last_value or self.steps[0] > self.until / 5
        young = self.log.unit == "step" and fresh
        return FIRST_ERROR * float(np.log(max(FIRST_STEPS / self.until, 1.0))) if young else 0.0

    @property
    def risen(self) -> Change | None:
        """By how much the loss has risen since it was lowest, and since when, unless the rate has risen, too."""
        found = rise(*self.seen())
        if found is None or self.schedule is None:
            return found
        then, now = self.schedule.rate(np.array([found.step, self.until]))
        return found if now <= then + FLAT else None

    @property
    def end_noise(self) -> float:
        """Relative sd of the final loss as it is logged, the mean of the last 2% of the rows, around its course."""
        steps, loss = self.seen()
        rows = (
            END
            * (self.horizon - self.begin)
            * len(steps[len(steps) // 2 :])
            / max(self.until - steps[len(steps) // 2], 1e-9)
        )
        return noise(np.log(loss)) / float(np.sqrt(max(rows, 1.0)))

    @property
    def end(self) -> float:
        """Mean loss of the last 2% of the rows that may be looked at, as they were logged."""
        loss = self.logged()[1]
        return float(loss[-max(1, round(END * len(loss))) :].mean())

    @property
    def last_value(self) -> float:
        """Mean loss of the last twentieth of what may be looked at."""
        loss = self.seen()[1]
        return float(loss[-max(1, len(loss) // 20) :].mean())

    def tokens(self, step: float) -> float | None:
        """Tokens seen at a step, as the log counts them: ramps of the batch and earlier training included."""
        return None if self.log.tokens is None else self.log.tokens.at(step)

    def seconds(self, step: float) -> float | None:
        """Seconds from the last step looked at to a later one, where the log tells the time."""
        return None if self.log.seconds_per_step is None else (step - self.until) * self.log.seconds_per_step


def prepare(
    log: Log,
    *,
    metric: str | None = None,
    until: str | None = None,
    horizon: float | None = None,
    warmup: float | None = None,
    plan: Plan | None = None,
    smooth: int = 1,
) -> Run:
    """The run behind a log. until: a step, or a share of the run such as "30%"; default: all there is."""
    metric = log.metric(metric)
    steps, loss = _smoothed(log.losses[metric].steps, log.losses[metric].values, smooth)
    last = float(log.losses[metric].steps[-1])  # the mean of the last few rows lies before it
    begin = _begin(log.losses[metric].steps, horizon or log.horizon)
    if horizon is not None and until is not None and horizon < last and np.any(keep := steps <= horizon):
        # some programs go on a little beyond the step that they planned, and nothing there is to be looked at
        steps, loss = steps[keep], loss[keep]
        last = float(steps[-1])
    end = _end(log, last, horizon, until, plan)
    horizon = _ahead(begin, last, AHEAD[-1]) if end.step is None else end.step
    schedule = from_log(log, end.reached if end.supposed else horizon, warmup, plan)
    if schedule is not None and end.supposed:
        schedule = schedule.going_on(horizon, 0.0, assumed=True)
    reached = _until(until, begin, horizon, last, log.name)
    run = Run(log, metric, steps, loss, schedule, horizon, warmup or 0.0, reached, end.step is None,
              goes_on=end.goes_on, goes_to=end.goes_to, low=end.low, supposed=end.supposed, begin=begin)  # fmt: skip
    return cut_at(run, reached)


def cut_at(run: Run, until: float) -> Run:
    """The same run of which no more may be looked at than up to some step."""
    risen = run.schedule.warmup if run.schedule else run.cut
    cut = max(WARMUPS * risen, until / SPAN, float(run.steps[run.steps > 0].min(initial=until)))
    seen = replace(run, until=until, cut=cut, changes=())
    # Losses by position are not levelled, and their mean goes with them.
    return seen if run.metric in run.log.positions else replace(seen, changes=changes(*seen.logged(), run.schedule))


def _end(log: Log, last: float, given: float | None, until: str | None, plan: Plan | None) -> End:
    """Where the run ends, not before the last loss; with a plan for the rate, nothing is supposed of its fall."""
    end = find_end(log, last, given, whole=until is not None)
    if plan is not None and end.goes_on is not None:
        return End(None)
    if end.step is None or end.step >= last:
        return end
    if given is None:
        return End(last)  # programs count from 0 or from 1, and evaluate once more after the last step they planned
    raise UserError(
        f"the horizon {given:,.10g} lies before the last {log.axis} {last:,.10g}",
        where=log.name,
        hint="use --fit-until to look at less of the run" if log.axis == "step" else f"it counts {log.axis}s here",
    )


def _begin(steps: Array, horizon: float | None) -> float:
    """Where shares begin, which is the same for a log and for the beginning of it."""
    if len(steps) < 2:
        return 0.0
    first, gap = float(steps[0]), float(np.median(np.diff(steps[:FIRST_ROWS])))
    return first if first > MISSING * gap or (horizon and first > LATE * horizon) else 0.0


def _ahead(begin: float, until: float, times: float) -> float:
    return begin + (until - begin) * times


def _until(until: str | None, begin: float, horizon: float, last: float, name: str) -> float:
    if until is None:
        return last
    found = find_real(until.removesuffix("%"))
    if found is None:
        raise UserError(f"--fit-until {until}: neither a step nor a share such as 30%")
    step = begin + found / 100 * (horizon - begin) if until.endswith("%") else found
    if not begin < step <= horizon:
        what = f"its horizon is {horizon:,.10g}" + (f", its first step is {begin:,.10g}" if begin else "")
        raise UserError(f"--fit-until {until} lies outside the run", where=name, hint=what)
    return min(step, last)


def _smoothed(steps: Array, loss: Array, window: int) -> tuple[Array, Array]:
    """Means of `window` rows each, the last ones whole."""
    if window < 2:
        return steps, loss
    start = len(steps) % window
    if start == len(steps):
        raise UserError(f"--smooth {window} leaves no point of {len(steps)}")
    return steps[start:].reshape(-1, window).mean(axis=1), loss[start:].reshape(-1, window).mean(axis=1)
