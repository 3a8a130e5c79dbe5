"""The learning rate from the first step to the horizon, known before the run gets there: the key to its end.

Held as knots of a piecewise linear function of the step, over the peak, so that a run of a million steps costs no more
than one of a thousand.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.ending import power_of_step
from llmtool.methods.temporal_scaling.logs.log import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.shapes import known_again

Array = NDArray[np.float64]
# In the order of the command line: `Literal[..] | None` of the same names in any order is one cached object.
Shape = Literal["cosine", "linear", "wsd", "wsd-sqrt", "inverse-sqrt", "power", "constant"]
DECAYS = ("wsd", "wsd-sqrt")
"""Constant, then a fall in the last share of the steps: linear, or with 1 - sqrt of the progress (arXiv 2405.18392)."""
KNOTS = 2048
FLAT = 0.02
"""Rates within 2% of one another are called constant."""
UPDATES = 20_000.0
"""Of a run whose log does not count them. With a tenth as many or twenty times as many in truth, what a cosine takes
off is told to 0.3% of the loss as it is in steps, and a fall over the last fifth to 1.7%."""
NOT_ADAM = 0.02
"""A peak rate that is none of Adam's kind any more, but of Muon or SGD, or a factor: nothing follows from it."""
JUMP = 0.05
SHORT_REST, LONG_REST = 0.3, 0.4
"""The shares of the steps at the peak up to which a rate does not rest there, and from which on it does. From half of
falls that leave at most the first, the ends of 34 runs of Muon's kin, whose sums are not known, lay inside in 71%; with
what `Fit.lower` allows there, in 94%."""
STRANGE = 0.01
"""A log whose rates stay below this share of the peak that is given counts them otherwise."""
AMISS = 0.03
"""A planned rate is another one than the logged where the last row lies so far off it, relative to the peak."""


@dataclass(frozen=True)
class Schedule:
    """eta at `steps`, from step 0 to the horizon; linear in between. warmup: the step at which the peak is reached.

    assumed: the step from which the rate is only supposed; None where it is known to the end.
    follows: the shape by which it goes on, where only its logged part says so. doubt: what speaks against all this.
    skipped: whether the warm-up is only supposed, since the log begins at the peak and far from step 0. updates: as how
    many a unit of the axis counts, for what a fall takes off comes with the updates after it. peak: the rate that eta
    is relative to, in the log's units; None where nobody says.
    """

    steps: Array
    eta: Array
    warmup: float
    assumed: float | None = None
    follows: str = ""
    doubt: str = ""
    skipped: bool = False
    updates: float = 1.0
    peak: float | None = None

    @property
    def horizon(self) -> float:
        """The last step."""
        return float(self.steps[-1])

    def rate(self, t: Array) -> Array:
        """eta at steps t."""
        return np.interp(t, self.steps, self.eta)

    def area(self, t: Array) -> Array:
        """S1 + SW: the sum of eta over all steps up to t, warm-up included (exact for the linear pieces)."""
        gaps = np.diff(self.steps)
        sums = np.concatenate([[0.0], np.cumsum(gaps * (self.eta[1:] + self.eta[:-1]) / 2)])
        t = np.clip(t, self.steps[0], self.steps[-1])
        piece = np.clip(np.searchsorted(self.steps, t, side="right") - 1, 0, len(gaps) - 1)
        start = self.steps[piece]
        return sums[piece] + (t - start) * (self.eta[piece] + self.rate(t)) / 2

    @property
    def total(self) -> float:
        """S1 + SW at the horizon."""
        return float(self.area(self.steps[-1:])[0])

    @property
    def adams(self) -> float:
        """How far the rate is taken for one of Adam's, 0 to 1: not at all where nobody says it or counts the updates,
        or from NOT_ADAM on; wholly up to half of that; between the two by its logarithm, so that nothing jumps."""
        if self.peak is None or self.peak <= 0 or self.updates != 1:
            return 0.0
        return float(np.clip(np.log2(NOT_ADAM / self.peak), 0.0, 1.0))

    @property
    def path(self) -> float | None:
        """The sum of the rates over all updates, in the log's units: how far Adam moves a weight that it always moves
        the same way. None where the rate is none of Adam's, as far as is known."""
        return self.peak * self.total if self.peak is not None and self.adams else None

    @property
    def flat(self) -> bool:
        """Whether the rate stays at its peak from the end of the warm-up on: then a law may do without it."""
        later = self.eta[self.steps >= self.warmup]
        return bool(later.max() - later.min() <= FLAT)

    @property
    def rests(self) -> float:
        """How far the rate stays at its highest for long, 0 (as in a cosine) to 1; in between in proportion."""
        eta = self.rate(np.linspace(0.0, self.horizon, KNOTS))
        share = float(np.mean(eta > (1 - FLAT) * eta.max()))
        return min(max((share - SHORT_REST) / (LONG_REST - SHORT_REST), 0.0), 1.0)

    @property
    def fall(self) -> float:
        """The share of the steps over which the rate falls: the length of a straight fall, and of any other that of the
        straight one whose parts lie as far apart (the root of 12 variances in time), 1 at the most; 0 where the rate is
        flat, or only rises."""
        later = self.steps >= self.warmup
        steps, eta = self.steps[later] / self.horizon, self.eta[later]
        # What falls by less than FLAT is no fall yet: a logged rate may tremble on its plateau.
        lowest = np.minimum.accumulate(np.minimum(eta, eta[0] - FLAT))
        fallen = -np.diff(lowest)
        if not fallen.any():
            return 0.0
        share, middle, length = fallen / fallen.sum(), (steps[1:] + steps[:-1]) / 2, np.diff(steps)
        spread = float(np.sqrt(12 * (share @ ((middle - share @ middle) ** 2 + length**2 / 12))))
        return min(spread * (1 + FLAT / float(fallen.sum())), 1.0)

    def decays_after(self, step: float) -> bool:
        """Whether the rate falls between a step and the horizon: then its future says what the past cannot."""
        later = self.eta[self.steps >= step]
        return bool(len(later) and self.rate(np.array([step]))[0] - later.min() > FLAT)

    def with_fall(self, share: float = 0.2, end: float = 0.1) -> "Schedule":
        """The same up to where the rate is assumed, then a linear fall to `end` over the last share of the steps."""
        start = max(self.assumed or 0.0, self.horizon * (1 - share))
        steps = np.union1d(self.steps, np.linspace(start, self.horizon, 64))
        fall = np.clip((steps - start) / (self.horizon - start), 0, 1)
        return replace(self, steps=steps, eta=self.rate(steps) * (1 - (1 - end) * fall), assumed=None)

    def without_warmup(self) -> "Schedule":
        """The same at its peak from step 0 on."""
        later = self.steps >= self.warmup
        steps, eta = np.append(0.0, self.steps[later]), np.append(self.eta[later][0], self.eta[later])
        return replace(self, steps=steps, eta=eta, warmup=0.0, skipped=False)

    def going_on(self, step: float, rate: float, *, assumed: bool = False) -> "Schedule":
        """The same, then a line to a rate at a later step; assumed: that is only supposed."""
        steps, eta = np.append(self.steps, step), np.append(self.eta, rate)
        return replace(self, steps=steps, eta=eta, assumed=self.horizon if assumed else None)

    def to_json(self) -> dict[str, object]:
        """Knots as lists, for a saved fit."""
        facts = {"steps": self.steps.tolist(), "eta": self.eta.tolist(), "warmup": self.warmup}
        beside = {"updates": None if self.updates == 1 else self.updates, "peak": self.peak}
        return facts | {key: value for key, value in beside.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """A schedule by name, for logs that do not hold it. end: last rate over peak; decay: share of the steps in which
    wsd falls, linearly; peak: in the log's units, where the log does not reach it."""

    shape: Shape
    end: float = 0.1
    decay: float = 0.2
    peak: float | None = None

    def schedule(self, horizon: float, warmup: float = 0.0) -> Schedule:
        """The schedule up to a horizon, after a linear warm-up."""
        if not 0 <= warmup < horizon:
            raise UserError(f"a warm-up of {warmup:g} steps does not fit a horizon of {horizon:g}")
        if not (0 <= self.end <= 1 and 0 < self.decay <= 1):
            raise UserError("the last rate and the share of the decay are at most 1, relative to the peak and the run")
        t = np.linspace(warmup, horizon, KNOTS)
        progress = (t - warmup) / (horizon - warmup)
        if self.shape == "constant":
            eta = np.ones_like(t)
        elif self.shape == "cosine":
            eta = self.end + (1 - self.end) * (1 + np.cos(np.pi * progress)) / 2
        elif self.shape == "linear":
            eta = 1 - (1 - self.end) * progress
        elif self.shape in ("inverse-sqrt", "power"):
            # From the peak on as t^-1/2 (Vaswani et al.), or as the power of t that reaches `end` at the horizon.
            start = max(warmup, 1.0)
            exponent = 0.5 if self.shape == "inverse-sqrt" else -np.log(max(self.end, 1e-3)) / np.log(horizon / start)
            eta = (np.maximum(t, start) / start) ** -exponent
        else:
            fall = np.clip((t - horizon * (1 - self.decay)) / (horizon * self.decay), 0, 1)
            eta = 1 - (1 - self.end) * (np.sqrt(fall) if self.shape == "wsd-sqrt" else fall)
        if warmup > 0:
            t, eta = np.concatenate([[0.0], t]), np.concatenate([[0.0], eta])
        return Schedule(t, eta, warmup, peak=self.peak)


def from_log(log: Log, horizon: float, warmup: float | None = None, plan: Plan | None = None) -> Schedule | None:
    """What is known of the rate to the horizon, in a log's own axis; None where nothing is. An axis that counts no
    updates (epochs, tokens, rows) is taken for one of UPDATES in all."""
    found = _from_log(log, horizon, warmup, plan)
    return found if found is None or log.unit == "step" else replace(found, updates=UPDATES / horizon)


def _from_log(log: Log, horizon: float, warmup: float | None, plan: Plan | None) -> Schedule | None:
    """What is known of the rate: logged rows first, `plan` beyond them; None where nothing is.

    Before the first row: a linear warm-up of `warmup` steps; where not given, up to a first row that stands far from
    step 0 at the peak already (a log that leaves the warm-up out), else along the logged rows.
    """
    if log.rate is None or len(log.rate) < 2 or log.rate.values.max() <= 0:
        return plan.schedule(horizon, warmup or 0.0) if plan else None
    rate = _thinned(log.rate)
    largest = float(rate.values.max())
    peak = (plan.peak if plan else None) or largest
    if not STRANGE * peak <= largest <= (1 + AMISS) * peak:
        raise UserError(f"--peak {peak:g} and a log whose largest rate is {largest:g}", where=log.name,
                        hint="--peak is for a log that does not reach it, in its units")  # fmt: skip
    keep = rate.steps <= horizon
    steps, eta = _with_jumps(rate.steps[keep], rate.values[keep] / peak)
    assumed, follows, doubt = None, "", ""
    if horizon > steps[-1]:
        again = known_again(steps, eta, horizon) if plan is None and log.rate.steps[-1] < horizon else None
        if again is not None and horizon - steps[-1] > 2 * np.median(np.diff(steps)):
            last, follows = steps[-1], str(again)
            steps, eta = np.append(steps, again.steps), np.append(eta, again.rate)
            if horizon != log.horizon:  # a reader's horizon, not the program's own
                doubt = (f"the learning rate is known to step {last:,.0f} only, and supposed to go on as {follows}, "
                         "which it is so far (give --schedule)")  # fmt: skip
        else:
            steps, eta, assumed, doubt = _continued(log, steps, eta, horizon, plan, warmup or 0.0)
    elif horizon < rate.steps[-1] and not keep.all():
        steps, eta = np.append(steps, horizon), np.append(eta, np.interp(horizon, rate.steps, rate.values) / peak)
    risen = float(steps[np.argmax(eta >= eta.max() * (1 - FLAT / 2))])
    skipped = bool(warmup is None and steps[0] > 2 * np.median(np.diff(steps)) and risen == steps[0])
    if warmup is None:
        # A row at the very start shows no warm-up; one that rises shows its own.
        warmup = risen if skipped or risen > steps[0] else 0.0
    if steps[0] > 0:
        first = np.array([0.0, warmup]) if 0 < warmup < steps[0] else np.array([0.0])
        values = np.where(first < warmup, 0.0, 1.0) if warmup > 0 else np.ones(1)
        steps, eta = np.concatenate([first, steps]), np.concatenate([values, eta])
    return Schedule(steps, eta, warmup, assumed, follows, doubt, skipped, peak=peak)


def _with_jumps(steps: Array, eta: Array) -> tuple[Array, Array]:
    """A rate that jumps between two rows is held up to the later one: the loss logged there has not felt it yet.

    Drawn as a slope, a jump in the last fitted interval passed for a fall without effect: 2-3.5% off the final loss.
    """
    change = np.abs(np.diff(eta))
    around = np.maximum(np.append(change[1:], 0), np.insert(change[:-1], 0, 0))
    jump = np.flatnonzero((change > JUMP) & (change > 5 * around) & (np.diff(steps) > 1))
    return np.insert(steps, jump + 1, steps[jump + 1] - 1), np.insert(eta, jump + 1, eta[jump])


def _continued(
    log: Log, steps: Array, eta: Array, horizon: float, plan: Plan | None, warmup: float
) -> tuple[Array, Array, float | None, str]:
    """The rate to the horizon, the step from which it is only assumed (a plateau so far may yet end in a fall), and
    what speaks against it."""
    if plan is not None:
        planned = plan.schedule(horizon, warmup)
        later, there = planned.steps > steps[-1], float(planned.rate(steps[-1:])[0])
        doubt = ""
        if abs(there - eta[-1]) > AMISS:
            doubt = (f"--schedule has the learning rate at {100 * there:.0f}% of its peak at step {steps[-1]:,.0f}, "
                     f"the log at {100 * eta[-1]:.0f}%")  # fmt: skip
        return np.concatenate([steps, planned.steps[later]]), np.concatenate([eta, planned.eta[later]]), None, doubt
    # The last logged step may be one short of the last step of the run.
    ahead = horizon - steps[-1] > 2 * np.median(np.diff(steps))
    power = power_of_step(steps, eta) if ahead else None
    if power is not None:
        later = np.geomspace(steps[-1], horizon, KNOTS // 8)[1:]
        falling = eta[-1] * (later / steps[-1]) ** -power
        return np.append(steps, later), np.append(eta, falling), float(steps[-1]), ""
    if ahead and eta[len(eta) // 2 :].min() < 1 - FLAT and not _level(steps, eta):
        of = f" of {horizon:,.0f}, which the log plans," if horizon == log.horizon else ""
        raise UserError(
            f"the learning rate is known to step {steps[-1]:g}{of} only, and is not constant",
            where=log.name,
            hint="give --schedule for the steps up to --horizon",
        )
    return np.append(steps, horizon), np.append(eta, eta[-1]), float(steps[-1]) if ahead else None, ""


def _level(steps: Array, eta: Array) -> bool:
    """Whether a rate that stepped down has stayed since: for a quarter of the steps, and without a slope."""
    quarter, tenth = (eta[steps >= steps[-1] * share] for share in (0.75, 0.9))
    return bool(np.ptp(quarter) <= FLAT and np.ptp(tenth) <= FLAT / 10)


def _thinned(rate: Series) -> Series:
    """At most KNOTS rows; where the rate turns, rows are kept before others."""
    if len(rate) <= KNOTS:
        return rate
    turning = np.abs(np.diff(rate.values, 2)).cumsum()
    even = np.linspace(0, 1, len(turning))
    place = even if turning[-1] <= 0 else (turning / turning[-1] + even) / 2
    kept = np.unique(np.searchsorted(place, np.linspace(0, 1, KNOTS - 2)).clip(0, len(turning) - 1) + 1)
    kept = np.concatenate([[0], kept, [len(rate) - 1]])
    return Series(rate.steps[kept], rate.values[kept])
