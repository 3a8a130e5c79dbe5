"""A training log as arrays: one series per loss, the learning rate (known future included), tokens and time.

Readers give records, name by value; the columns get their meaning here, once for the whole log, so that the order of
the names in a row decides nothing. Mended on the way, and said in `notes`: what is no number or not positive is dropped
and counted; after a restart the last run of a step wins, and what the abandoned branch logged beyond it goes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.logs.axis import LARGEST_STEP, find_axis
from llmtool.methods.temporal_scaling.logs.columns import Chosen, Reading, Record, values_of
from llmtool.methods.temporal_scaling.logs.names import ADVERSARIES, GENERATORS, HELD_OUT, TOTAL, words
from llmtool.methods.temporal_scaling.logs.ranks import merged, of_one_rank
from llmtool.methods.temporal_scaling.logs.runs import refuse_whole_runs
from llmtool.methods.temporal_scaling.logs.series import Series, beside, in_order, matrix, slope, unrounded

Array = NDArray[np.float64]
NEAR = 2.0
"""A last row is the end of a run where the last loss stands so many times as far before it as the one before it."""


class NotYetError(UserError):
    """The log holds too little so far; more of it may do."""


@dataclass(frozen=True)
class Log:
    """What one run wrote. `losses` and `positions` are by metric: "train", "val" or an evaluation set.

    unit: of the axis, "step", "tokens", "epoch" or "row"; columns: the name in the log behind each of what was read;
    tokenizer: its hash, which llmtool's own logs carry;
    units: of the losses that are no nats, by metric; ended: whether a row says that the run has ended;
    broken_from: the first step after the last good loss at which the loss is no number, if it has come to that;
    broken_rows: at how many steps it is none.
    """

    name: str
    losses: dict[str, Series]
    positions: dict[str, Series] = field(default_factory=dict)
    rate: Series | None = None
    horizon: float | None = None
    tokens: Series | None = None
    seconds: Series | None = None
    notes: tuple[str, ...] = ()
    unit: str = "step"
    columns: dict[str, str] = field(default_factory=dict)
    tokenizer: str | None = None
    broken_from: float | None = None
    units: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    broken_rows: int = 0

    @property
    def axis(self) -> str:
        """What one of its steps is called."""
        return self.unit.removesuffix("s")

    @property
    def peak_rate(self) -> float | None:
        """The highest learning rate that the log tells of, in its own units."""
        return None if self.rate is None else float(self.rate.values.max())

    @property
    def tokens_per_step(self) -> float | None:
        """Median tokens of a step."""
        return slope(self.tokens)

    @property
    def seconds_per_step(self) -> float | None:
        """Median seconds of a step, which pauses and restarts do not move."""
        return slope(self.seconds)

    def metric(self, wanted: str | None = None) -> str:
        """The loss to look at: asked for, else one by position, else the training loss, else the generator's, else the
        longest that is no adversary's."""
        if wanted is not None:
            if wanted not in self.losses and f"val_{wanted}" in self.losses:
                return f"val_{wanted}"
            if wanted not in self.losses:
                held = ", ".join(self.losses)
                raise UserError(f"holds no loss called {wanted!r}", where=self.name, hint=f"it holds {held}")
            return wanted
        if self.positions:
            return next(iter(self.positions))
        if "train" in self.losses:
            return "train"
        parts = {name: set(name.split("_")) for name in self.losses}
        own = [name for name in parts if not ADVERSARIES & parts[name]]
        made = sorted((name for name in own if GENERATORS & parts[name]), key=lambda name: len(parts[name]))
        return max(made or own or parts, key=lambda name: len(self.losses[name]))


def assemble(
    records: Iterable[Record],
    name: str,
    horizon: float | None = None,
    chosen: Chosen | None = None,
    told: Sequence[str] = (),
) -> Log:
    """The log that a reader's records make; a UserError where they hold no loss or are no single run. told: notes of
    the reader."""
    reading = Reading(name, chosen or Chosen())
    held, of_rank = of_one_rank(records, reading.meaning)
    for record in held:
        reading.add(record)
    _require(reading)
    axis = find_axis(reading)
    axis_name, x = axis.name, axis.steps
    unit = _unit(reading, axis_name)
    planned = [value for key in reading.by_role("horizon") for value in reading.columns[key].values[-1:]]
    if unit != "step" or axis.within_epochs:
        planned = []
    for value in [*planned[-1:], axis.horizon]:
        if horizon is None and value is not None and 0 < value <= LARGEST_STEP:
            horizon = int(value)
    anew = refuse_whole_runs(axis_name, x, reading, horizon)
    losses, positions, notes, columns = _losses(reading, x)
    notes += [*anew, *told, *[of_rank] * bool(of_rank), *_amiss(reading, axis_name)]
    columns["step"] = axis_name
    other: dict[str, Series | None] = {}
    for role in ("rate", "tokens", "seconds"):
        other[role] = None
        for key in reading.by_role(role):
            column = reading.columns[key]
            values = np.array(column.values) * column.meaning.scale
            series = beside(x[column.places], values)
            if len(series) and (role != "rate" or series.values.max() > 0):
                other[role], columns[role] = series, key
                break
    if (rate := other["rate"]) is not None and (smooth := unrounded(rate)) is not rate:
        other["rate"] = smooth
        notes.append("the learning rate was rounded, and goes on straight between its steps")
    notes += axis.notes
    if (ended := _ended(reading, axis_name, x, horizon)) is not None:
        notes.append(
            f"the closing row stands at {unit.removesuffix('s')} {ended:,.10g}: the run has ended"
            + (f" (planned to {horizon:,.10g})" if horizon and horizon > ended else "")
        )
        horizon = min(horizon or ended, ended)
    broken = _broken(reading, x, losses, columns)
    return Log(name, losses, positions, other["rate"], horizon, other["tokens"], other["seconds"], tuple(notes), unit,
               columns, reading.tokenizer, float(broken[0]) if len(broken) else None,
               _units(reading, columns), ended is not None, len(broken))  # fmt: skip


def _require(reading: Reading) -> None:
    """Refuse a log without what a forecast needs, and one that mixes runs; an error lists the columns found."""
    known = {key.strip().lower(): key for key in reading.known}
    for flag, wanted in (("--step-column", reading.chosen.step), ("--loss-column", reading.chosen.loss),
                         ("--lr-column", reading.chosen.rate)):  # fmt: skip
        if wanted and wanted.strip().lower() not in known:
            raise UserError(f"has no column {wanted!r} ({flag})", where=reading.name,
                            hint=closest(wanted, list(reading.known)) or f"columns: {reading.listed()}")  # fmt: skip
    if len(reading.runs) > 1:
        names = ", ".join(sorted(reading.runs)[:3])
        raise UserError(f"holds {len(reading.runs)} runs ({names}) in one file", where=reading.name,
                        hint="one run a file")  # fmt: skip
    found = f"; columns: {reading.listed()}" if reading.known else ""
    if not any(map(reading.by_role, ("axis", "tokens", "loss"))) and not reading.lists:
        raise NotYetError(f"no row has a step and a loss{found}", where=reading.name,
                          hint="name them with --step-column and --loss-column")  # fmt: skip
    if not reading.by_role("loss") and not reading.lists:
        if any(held is not None and held.role == "loss" for held in reading.known.values()):
            raise NotYetError("every loss in it is empty or no number", where=reading.name)
        raise NotYetError(f"has no loss column{found}", where=reading.name, hint="name it with --loss-column")


def _losses(reading: Reading, x: Array) -> tuple[dict[str, Series], dict[str, Series], list[str], dict[str, str]]:
    """The series of every metric, and by position; of several columns of one metric, the one with most rows."""
    by_metric = _by_metric(reading)
    losses, notes, columns = {}, [], {}
    restarts, dropped = 0, set[int]()
    rates = values_of(reading, next(iter(reading.by_role("rate")), ""))
    for metric, keys in by_metric.items():
        by_hand = [key for key in keys if key.strip().lower() == (reading.chosen.loss or "").strip().lower()]
        key = by_hand[0] if by_hand else max(keys, key=lambda each: len(reading.columns[each].values))
        column = reading.columns[key]
        values, steps = np.array(column.values), x[column.places]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values) if math.isnan(column.meaning.scale) else values
        keep = np.isfinite(values) & (values > 0) & np.isfinite(steps)
        if keep.any() or len(by_metric) == 1:  # of several, one that is 0 throughout is none
            dropped.update(np.array(column.places)[~keep].tolist())
        if not keep.any():
            continue
        rows, kept, of_ranks = merged(steps[keep], values[keep], rates[np.array(column.places)[keep]])
        if of_ranks:
            notes.append(f"{metric}: {of_ranks}")
        losses[metric], back = in_order(rows, kept, reading.name)
        restarts, columns[metric] = max(restarts, back), key
    if reading.chosen.loss and columns:
        named = next(
            (m for m, key in columns.items() if key.strip().lower() == reading.chosen.loss.strip().lower()), ""
        )
        losses = {named: losses[named]} if named else losses
    for metric in [each for each in losses if each.endswith(("_ppl", "_bpb"))]:
        base = metric.rpartition("_")[0]
        if base not in losses:  # else the loss itself is there as well
            losses[base], columns[base] = losses[metric], columns[metric]
        del losses[metric], columns[metric]
    notes += [f"{metric} is in {unit}" for metric, unit in _units(reading, columns).items()]
    held = {metric: matrix(rows, x, reading.name, metric) for metric, rows in reading.lists.items()}
    for metric, series in held.items():
        losses.setdefault(metric, Series(series.steps, series.values.mean(axis=1)))
    if not losses:
        raise NotYetError("every loss in it is NaN or not positive", where=reading.name)
    if dropped:
        notes.append(f"dropped {counted(len(dropped), 'row')} whose step or loss is not a positive number")
    if restarts:
        notes.append(f"{restarts} restarts: the last run of each step counts")
    return losses, held, notes, columns


def _by_metric(reading: Reading) -> dict[str, list[str]]:
    """The columns of each metric. One that is named by its words alone, `val/box_loss`, is of a set called box; where
    there is a box of training as well, it is the held-out one of the two: `val_box`."""
    metrics = {key: reading.columns[key].meaning.metric for key in reading.by_role("loss")}
    held_out = {key for key in metrics if HELD_OUT.intersection(words(key))}
    trained = {metric.removeprefix("train_") for key, metric in metrics.items() if key not in held_out}
    out: dict[str, list[str]] = {}
    for key, metric in metrics.items():
        both = key in held_out and metric in trained and metric.partition("_")[0] not in ("val", "train")
        out.setdefault(f"val_{metric}" if both else metric, []).append(key)
    return out


def _ended(reading: Reading, axis: str, x: Array, horizon: float | None) -> float | None:
    """Where a run has ended, as rows behind its last loss say: the Trainer's closing one, whatever was planned and
    evaluated then, or one that names the last step planned, has reached it and plans nothing. None where none does."""
    losses = {key: reading.columns[key] for key in reading.by_role("loss")}
    trained = [each.places[-1] for each in losses.values() if each.meaning.metric == "train"]
    places = [each.places[-1] for each in losses.values()] + [rows[-1][0] for rows in reading.lists.values()]
    behind = max(trained or places)
    if any(place > behind for place in reading.closed):
        at = x[behind:][np.isfinite(x[behind:]) & (x[behind:] > 0)]
        return float(at.max()) if len(at) else None
    behind = max(places)
    planned = any(reading.columns[key].places[-1] > behind for key in reading.by_role("rate"))
    at = x[behind + 1 :]
    counts = [key for key in (*reading.by_role("horizon"), axis + TOTAL) if key in reading.columns]
    named = [at[values_of(reading, key)[behind + 1 :] <= at] for key in counts]
    end = max((float(each.max()) for each in named if len(each)), default=0.0)
    seen = np.sort(x[next(iter(losses.values())).places]) if losses else np.zeros(0)
    near = len(seen) > 1 and end - seen[-1] <= NEAR * (seen[-1] - seen[-2])
    return end if horizon and end >= horizon and near and not planned else None


def _unit(reading: Reading, axis: str) -> str:
    """What an axis counts."""
    if axis not in reading.columns:
        return axis
    return reading.columns[axis].meaning.unit or ("tokens" if axis in reading.by_role("tokens") else "step")


def _units(reading: Reading, columns: dict[str, str]) -> dict[str, str]:
    """The units of losses, where they are not the usual one."""
    held = {metric: reading.columns[key].meaning for metric, key in columns.items() if key in reading.columns}
    return {metric: each.unit for metric, each in held.items() if each.role == "loss" and each.unit}


def _broken(reading: Reading, x: Array, losses: dict[str, Series], columns: dict[str, str]) -> Array:
    """The steps without a finite loss after the last good one, of the training loss or of any [steps]."""
    for metric in sorted(losses, key=lambda name: name != "train"):
        if metric in columns and (column := reading.columns.get(columns[metric])) is not None:
            steps, values = x[column.places], np.array(column.values)
            return np.unique(steps[(steps > losses[metric].steps[-1]) & ~np.isfinite(values)])
    return np.zeros(0)


def _amiss(reading: Reading, axis: str) -> list[str]:
    """What was left out or chosen, in a line each."""
    notes = []
    if reading.unread:
        notes.append(f"{counted(reading.unread, 'cell')} left out as no number, the first: {reading.first_unread}")
    if reading.closing:
        notes.append("the closing row's training loss is the mean of the run, and was left out")
    if axis not in reading.columns:
        return notes
    others = [
        key
        for key in reading.by_role("axis")
        if key != axis and not reading.columns[key].meaning.unit and reading.columns[key].meaning.rank >= 0
    ]
    if others and reading.columns[axis].meaning.rank >= 0 and not reading.columns[axis].meaning.unit:

        def ends(key: str) -> float:
            return max(reading.columns[key].values)

        if any(ends(key) != ends(axis) for key in others):
            notes.append(f"steps are {axis!r}; the log also counts {', '.join(map(repr, others))} (--step-column)")
    return notes
