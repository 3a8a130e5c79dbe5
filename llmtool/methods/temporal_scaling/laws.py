"""The laws of the mean loss, in one form: L(t) = exp(theta_0) shape(theta_1.., t).

Every parameter is the logarithm of a positive quantity *relative* to the loss or to the horizon, so one prior serves
runs of any size: priors in units of loss were off by 5-10% where the decay still lies ahead. reference.py has the laws
as published; `Multi-Power` here equals it with B = L0 gain (r alpha)^0.6, r = A S1(end)^-alpha / L0.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.schedule import Schedule

Array = NDArray[np.float64]
NODES = 160
"""Pieces into which the falls of the rate are gathered; 640 change the predicted losses by under 2e-5."""


@dataclass(frozen=True)
class View:
    """What laws need to know about the steps t of a run.

    time: t over the horizon [T]; area: S1 + SW at t over its value at the horizon [T]; falls: one row a step, one
    column a piece of the schedule in which the rate changes.
    """

    time: Array
    area: Array
    falls: "Falls | None" = None


@dataclass(frozen=True)
class Falls:
    """The changes of the rate up to each step: from eta `before` to `after`, as areas and ages since.

    before, after [K]: eta at the two ends of each piece; done [T, K]: the share of the piece that lies before t;
    area [T, K]: S_k(t), in updates at the peak, from the middle of that share; age [T, K]: the same in updates.
    """

    before: Array
    after: Array
    done: Array
    area: Array
    age: Array


def view(steps: Array, horizon: float, schedule: Schedule | None, reference: float | None = None) -> View:
    """The view of some steps; without a schedule, the rate counts as constant. reference: an area in place of S1."""
    if schedule is None:
        return View(steps / horizon, steps / horizon)
    area = schedule.area(steps)
    return View(steps / horizon, area / (reference or schedule.total), _falls(steps, area, schedule))


def _falls(steps: Array, area: Array, schedule: Schedule) -> Falls | None:
    # A log with few rows has long straight pieces, in which the rate falls all along.
    t = np.union1d(schedule.steps, np.linspace(schedule.warmup, schedule.horizon, 4 * NODES))
    t = t[t >= schedule.warmup]
    eta = schedule.rate(t)
    change = np.abs(np.diff(eta)).cumsum()
    if not len(change) or change[-1] < 1e-9:
        return None
    # Mostly by fall, a little by time, so that no piece is long where the rate barely moves; a jump is its own piece.
    place = change / change[-1] + 0.3 * (t[1:] - t[0]) / (t[-1] - t[0])
    ends = np.searchsorted(place, np.linspace(0, place[-1], NODES + 1)[1:]).clip(0, len(place) - 1) + 1
    jumps = np.flatnonzero(np.diff(change, prepend=0) > 2 / NODES * change[-1])
    edges = np.unique(np.concatenate([[0], ends, jumps, jumps + 1]))
    start, stop = t[edges[:-1]], t[edges[1:]]
    begin, end = schedule.area(start), schedule.area(stop)
    done = np.clip((steps[:, None] - start) / (stop - start), 0, 1)
    since = area[:, None] - (begin + done * (end - begin) / 2)
    age = steps[:, None] - (start + done * (stop - start) / 2)
    return Falls(
        np.maximum(eta[edges[:-1]], 1e-6), np.maximum(eta[edges[1:]], 1e-6), done,
        schedule.updates * np.maximum(since, 0), schedule.updates * np.maximum(age, 0),
    )  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """The logarithm of a positive quantity: `centre` and `sd` (of the log) are its prior; sd 0 holds it fixed.

    above: sd of the log of those projects that lie above the centre, where they reach further than others below it.
    below: sd that is added below the centre while the parameter is sought: a fall that has begun tells what it takes
    off better than other projects do. further: the power of the sum of the rates (Schedule.path) that the centre grows
    by; goes_with, goes_with_known: the power of a fall's length (Schedule.fall) that it does, where that sum is not
    known and where it is.
    """

    name: str
    centre: float
    sd: float
    above: float = 0.0
    below: float = 0.0
    goes_with: float = 0.0
    goes_with_known: float = 0.0
    further: float = 0.0

    def beside(self, schedule: Schedule | None) -> "Parameter":
        """The same for a run of some schedule."""
        if schedule is None or not (self.goes_with or self.goes_with_known or self.further):
            return self
        length = max(schedule.fall, SHORTEST) / USUAL_FALL if schedule.fall else 1.0
        way = min(max((schedule.path or USUAL_PATH) / USUAL_PATH, NEAREST), FURTHEST)
        known, unknown = way**self.further * length**self.goes_with_known, length**self.goes_with
        return replace(self, centre=self.centre * known**schedule.adams * unknown ** (1 - schedule.adams))


@dataclass(frozen=True)
class Law:
    """A law: `shape(theta, view)` is the loss up to the factor exp(theta_0); theta holds the parameters' logs.

    drift: relative sd that the law itself errs by as it is carried from the last step seen to e times as many.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    shape: Callable[[Array, View], Array] = field(repr=False)
    needs_schedule: bool = False
    drift: float = 2e-3

    def log_loss(self, theta: Array, points: View) -> Array:
        """The logarithm of the predicted loss; theta_0 is the log of the law's constant."""
        shape = self.shape(theta[1:], points)
        return np.asarray(theta[0] + np.log(np.maximum(shape, 1e-3)))

    def named(self, theta: Array) -> dict[str, float]:
        """The parameters as positive numbers."""
        names = ["constant", *(parameter.name for parameter in self.parameters)]
        return {name: float(value) for name, value in zip(names, np.exp(theta), strict=True)}

    def asymptote(self, theta: Array) -> float | None:
        """The loss of an endless run at the peak rate; None where the law has none."""
        return None if self.name == "log" else float(np.exp(theta[0]))


def _power(theta: Array, points: View) -> Array:
    r, b = np.exp(theta)
    return np.asarray(1 + r * points.time**-b)


def _shifted(theta: Array, points: View) -> Array:
    r, b, shift = np.exp(theta)
    return np.asarray(1 + r * (points.time + shift) ** -b)


def _logarithm(theta: Array, points: View) -> Array:
    return np.asarray(1 - np.exp(theta[0]) * np.log(points.time))


def _hyperbola(theta: Array, points: View) -> Array:
    r, b = np.exp(theta)
    return np.asarray(1 + r / (1 + b * points.time))


def _gain(r: float, alpha: float, gain: float) -> float:
    """What a fall of the rate to zero takes off, over L0: `gain` times a power of the slope of the log loss at the end.

    The slope is what a prefix determines best, while r and alpha trade against one another. Of whole runs of three
    projects, from 0.2M to 1.5B parameters, gain scatters by 0.24 of its log; over r alone it is 0.46, over L0 0.43.
    """
    return float(gain * (r * alpha) ** GAIN_POWER)


def _annealed(theta: Array, points: View) -> Array:
    """S2 over 1 / (1 - lambda): each fall counts by the share of its momentum that has been spent."""
    r, alpha, gain, memory = np.exp(theta)
    base = 1 + r * points.area**-alpha
    if points.falls is None:
        return np.asarray(base)
    falls = points.falls
    weight = falls.done * (falls.before - falls.after)
    return np.asarray(base - _gain(r, alpha, gain) * (weight * -np.expm1(-falls.age / memory)).sum(axis=1))


def _cooled(theta: Array, points: View) -> Array:
    r, alpha, gain, c, beta, gamma, p = np.exp(theta)
    base = 1 + r * points.area**-alpha
    if points.falls is None:
        return np.asarray(base)
    falls = points.falls
    weight = falls.done * (falls.before**p - falls.after**p)
    spent = 1 - (c * falls.area * falls.after**-gamma + 1) ** -beta
    return np.asarray(base - _gain(r, alpha, gain) * (weight * spent).sum(axis=1))


GAIN_POWER = 0.6
_R = Parameter("r", 0.1, 3.0)
"""0.2 to 0.01 of the loss: small models trained for long have next to nothing left at the end of a constant rate."""
_ALPHA = Parameter("alpha", 0.45, 0.2)
_STRENGTH = Parameter("gain", 0.39, 0.3, above=1.0, below=0.7, goes_with=0.4, goes_with_known=0.2, further=0.4)
"""Medians of the gain of whole runs, by project: 0.36, 0.33, and of our tiny runs 0.8 and 1.2; B / L0 is 0.06, 0.05,
0.18 and 0.12 there, where 0.36 would have made the last two 0.08 and 0.04. Below, projects lie near; above, up to
three times as high, 8% of the loss in place of 6%.

The longer the fall that a recipe plans, the more it takes off: 0.35 of public recipes that fall over 28% of the steps,
0.39 over 40%, 0.42 over 60%, 0.6 over 70%; where the sum of the rates is known, which such recipes differ in as well,
half as steeply.

The further Adam's rate lets the weights go, the more, whether the peak was high or the run long: in one project, whose
196 public runs have 0.39 (sum / 8)^0.41 (length / 0.28)^0.21 to 0.11 of its log, 0.2 to 1.3; of others with a rate of
Adam's those with far larger batches have less than these powers say, and those with far smaller ones more."""
USUAL_FALL, SHORTEST = 0.28, 0.17
"""The length of a fall that the centre of the gain is for, and the shortest that was looked at (but for jumps)."""
USUAL_PATH, NEAREST, FURTHEST = 8.0, 0.25, 4.0
"""The sum of the rates that it is for, and how far below and above it the centre still moves, as factors."""
_SPENT = (Parameter("C", 0.04, 0.5), Parameter("beta", 0.5, 0.1), Parameter("gamma", 0.64, 0.1))
# A gain linear in the rate falls short where a cosine ends: 0.4-0.9% of the loss, from any origin.
_LINEAR_GAIN = 5e-3


def at_high_rate(law: Law) -> Law:
    """The same law with the prior of projects whose peak rate is so high that the loss soon comes to rest there, and a
    fall takes off 15 to 20% of it: 1.1 to 2 of gain and 0.65 to 1.3 of alpha, of nine whole runs of Muon's kin, whose
    rates fall all along (hence 0.9: at USUAL_FALL)."""
    other = {
        "gain": Parameter("gain", 0.9, 0.4, goes_with=0.3, goes_with_known=0.3),
        "alpha": Parameter("alpha", 0.9, 0.3),
    }
    return replace(law, parameters=tuple(other.get(each.name, each) for each in law.parameters))


COOLDOWN = Law(
    "cooldown",
    "L0 + A S1^-alpha - B sum (eta_{k-1}^p - eta_k^p) G(eta_k^-gamma S_k)",
    (_R, _ALPHA, _STRENGTH, *_SPENT, Parameter("p", 0.9, 0.12)),
    _cooled,
    needs_schedule=True,
)
MULTI_POWER = Law(
    "mpl",
    "L0 + A S1^-alpha - B sum (eta_{k-1} - eta_k) G(eta_k^-gamma S_k)",
    (_R, _ALPHA, _STRENGTH, *_SPENT, Parameter("p", 1.0, 0.0)),
    _cooled,
    needs_schedule=True,
    drift=_LINEAR_GAIN,
)
ANNEALING = Law(
    "annealing",
    "L0 + A S1^-alpha - C S2",
    (_R, _ALPHA, _STRENGTH, Parameter("memory", 500.0, 1.0)),
    _annealed,
    needs_schedule=True,
    drift=_LINEAR_GAIN,
)
POWER = Law("power", "c + a N^-b", (_R, Parameter("b", 0.5, 2.0)), _power)
SHIFTED = Law("shifted", "c + a (N + s)^-b", (_R, Parameter("b", 0.5, 0.5), Parameter("s", 0.02, 2.0)), _shifted)
LOGARITHM = Law("log", "c - b log N", (Parameter("b", 0.05, 2.0),), _logarithm)
HYPERBOLA = Law("hyperbola", "c + a / (1 + b N)", (_R, Parameter("b", 10.0, 2.0)), _hyperbola)

LAWS = {law.name: law for law in (COOLDOWN, MULTI_POWER, ANNEALING, POWER, SHIFTED, LOGARITHM, HYPERBOLA)}
