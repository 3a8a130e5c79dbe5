"""How logs are looked at: the options that `fit`, `compare`, `backtest`, `positions` and `predict` share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.logs import Chosen, Log, read_log
from llmtool.methods.temporal_scaling.run import Run, prepare
from llmtool.methods.temporal_scaling.schedule import DECAYS, Plan, Shape


@dataclass(frozen=True)
class Look:
    """How logs are looked at: which loss, up to where, and what is known of the schedule."""

    metric: str | None = None
    until: str | None = None
    horizon: float | None = None
    shape: Shape | None = None
    peak: float | None = None
    end: float | None = None
    decay: float | None = None
    warmup: float | None = None
    smooth: int = 1
    step_column: str | None = None
    loss_column: str | None = None
    rate_column: str | None = None

    @property
    def chosen(self) -> Chosen:
        """The columns named by hand."""
        return Chosen(self.step_column, self.loss_column, self.rate_column)

    def plan(self, log: Log | None = None) -> Plan | None:
        """The schedule that the flags describe; a UserError where they contradict one another."""
        if self.shape is None:
            for name, value in (("--end-lr", self.end), ("--decay", self.decay), ("--peak", self.peak)):
                if value is not None:
                    raise UserError(f"{name} needs --schedule")
            return None
        if self.decay is not None and self.shape not in DECAYS:
            raise UserError(f"--decay belongs to --schedule {' and '.join(DECAYS)}, not to {self.shape}")
        peak = self.peak
        if self.end and peak is None and log is not None and log.rate is not None:
            peak = float(log.rate.values.max())
        if self.end and peak is None:
            raise UserError("--end-lr needs a --peak, or a log that holds the rate")
        if self.peak == 0:
            raise UserError("--peak 0: a peak rate is above 0")
        if self.end and peak is not None and self.end > peak:
            raise UserError(f"--end-lr {self.end:g} lies above the peak, {peak:g}")
        end = 0.1 if self.end is None else 0.0 if self.end == 0 or peak is None else self.end / peak
        return Plan(self.shape, end, self.decay or 0.2, self.peak)

    def run(self, log: Log, until: str | None = None) -> Run:
        """The run behind a log."""
        return prepare(log, metric=self.metric, until=until or self.until, horizon=self.horizon, warmup=self.warmup,
                       plan=self.plan(log), smooth=self.smooth)  # fmt: skip

    def finished(self, sources: Sequence[str], console: Console, but: str | None = None) -> list[Run]:
        """Whole runs to learn from (earlier.py): the same loss, to their own ends. but: a log that is none of them."""
        same = None if but is None or but == "-" else Path(but).resolve()
        others = [source for source in sources if Path(source).resolve() != same]
        if sources and not others:
            raise UserError("a run is no earlier run of itself", where=but, hint="--like takes other, finished runs")
        return replace(self, until=None, horizon=None).runs(others, console, "100%")

    def runs_with_earlier(
        self, sources: Sequence[str], like: Sequence[str], console: Console
    ) -> list[tuple[Run, list[Run]]]:
        """Each run behind some logs, and the finished ones that it learns from, whose notes are told once."""
        earlier = [self.finished(like, QUIET if place else console, each) for place, each in enumerate(sources)]
        return list(zip(self.runs(sources, console), earlier, strict=True))

    def runs(self, sources: Sequence[str], console: Console, until: str | None = None) -> list[Run]:
        """The runs behind some logs; what was mended in them goes to the console."""
        if sources.count("-") > 1:
            raise UserError("standard input can be read once")
        runs = []
        for source in sources:
            log = read_log(source, self.chosen)
            for note in _notes(log):
                console.info(f"{source}: {note}")
            runs.append(self.run(log, until))
            for note in (*self._share(runs[-1]), *_warmup(runs[-1]), *_beyond(runs[-1])):
                console.info(f"{source}: {note}")
            others = [name for name in log.losses if name != runs[-1].metric]
            if others and self.metric is None:
                console.info(f"{source}: the {runs[-1].metric} loss; it also holds {', '.join(others)} (--metric)")
        return runs

    def _share(self, run: Run) -> Iterator[str]:
        """The step that a share is, in a run whose log begins late."""
        if run.begin and self.until and self.until.endswith("%"):
            yield (f"begins at {run.axis} {run.begin:,.10g}: {self.until} of the way from there to "
                   f"{run.horizon:,.10g} is {run.axis} {run.until:,.10g}")  # fmt: skip


def _warmup(run: Run) -> Iterator[str]:
    """What is supposed of the steps before a log."""
    if run.schedule is not None and run.schedule.skipped and not run.begin:  # a continued run says so itself
        yield (f"begins at {run.axis} {run.schedule.warmup:,.10g}, at the peak of the learning rate: a warm-up to "
               "there is supposed (--warmup)")  # fmt: skip


def _beyond(run: Run) -> Iterator[str]:
    """What is left out of a log that goes on beyond the horizon that was given."""
    if not run.open_end and run.left_out:
        yield f"{counted(run.left_out, 'row')} beyond the horizon of {run.axis} {run.horizon:,.10g} left out"


def _notes(log: Log) -> Iterator[str]:
    """What was mended in a log, and what its axis counts where that is no step."""
    yield from log.notes
    if log.axis not in ("step", "row"):
        name = log.columns.get("step", log.axis)
        yield f"{name!r} counts {log.axis}s, and so do --horizon and --fit-until"
