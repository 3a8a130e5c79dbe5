"""What speaks against a law over sizes: sizes too few or too alike, a fit that misses, a back-test on the largest."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.across_runs import KAPLAN, SizeLaw, fit_sizes, loose
from llmtool.methods.temporal_scaling.isoflop import distinct
from llmtool.methods.temporal_scaling.size_table import Table

Array = NDArray[np.float64]
SPREAD = 1.5
"""Runs whose sizes differ by less than this factor are of one size: no exponent of it can be told."""
SAME = 1.05
"""Sizes within this factor count as one."""
FEWEST_SIZES = 3
"""A power and the constant below it have three parameters: two sizes leave one of them open."""
TOGETHER = 0.995
"""Where log N and log D go together like this, as at a fixed D / N, the two terms cannot be told apart."""
FEW = 2
"""Runs for each parameter of the law, below which it is flagged."""
FAR = 10.0
"""Compute beyond that of the largest run at which a prediction is flagged."""
OUTLIER = 6.0
"""Robust standard deviations of the log loss beyond which a run is named."""
MANY = 0.1
"""A larger share of such runs is no matter of runs; 4% at the most in eight public tables of one recipe each."""
SMALLEST_ERROR = 2e-3
MISFIT = 3.0
"""Per cent that a law misses its own runs by on average (0.2 to 1.0 in those tables), or the largest fifth of them in
the median (0.3 to 2.0), above which it is flagged: 40 and 16 in all of the tables as one."""
HELD = 0.2
"""The share of the runs, those with most compute, that the back-test predicts."""
ENOUGH = 20
"""Draws of the bootstrap from which a value outside of their 90% says something."""
NINETY = 1.645
SMALLEST_MODEL = 1e3
LARGEST_LOSS = 20.0
TELLS = 0.8
"""A column is named that leaves less than this share of what the law misses within its groups."""


def require_identifiable(runs: Table) -> None:
    """Refuse a table that cannot tell an exponent at all."""
    for what, values in (("parameters", runs.params), ("tokens", runs.tokens)):
        if values.max() < SPREAD * values.min():
            raise UserError(f"all runs have about {values.max():.3g} {what}: what the loss owes to them cannot be told",
                            hint="add runs of other sizes")  # fmt: skip


def doubts(
    law: SizeLaw, runs: Table, theta: Array, draws: Array, compute: Sequence[float],
    test: dict[str, float] | None = None,
) -> list[str]:  # fmt: skip
    """What speaks against the law, each in a line; test: what on_the_largest has found."""
    found = []
    if runs.runs < FEW * len(law.names):
        found.append(f"{counted(runs.runs, 'run')} for {len(law.names)} parameters")
    found += few_sizes(runs)
    if together(runs):
        ratio = np.median(runs.tokens / runs.params)
        found.append(f"parameters and tokens go together (D / N about {ratio:.3g}): their terms, and the best sizes, "
                     "cannot be told apart")  # fmt: skip
    found += [*_of_units(runs), *_of_parameters(law, runs, theta, draws), *_of_misfit(law, runs, theta, test)]
    far = [budget for budget in compute if budget > FAR * runs.compute.max()]
    if far:
        found.append(f"{max(far):.3g} FLOP is {max(far) / runs.compute.max():,.0f} times the largest run")
    return found


def few_sizes(runs: Table) -> list[str]:
    """Where a term has fewer than three sizes: no exponent, and no best size, follows from them."""
    out = []
    for what, values in (("parameters", runs.params), ("tokens", runs.tokens)):
        if (count := distinct(values, SAME)) < FEWEST_SIZES:
            out.append(f"{count} different numbers of {what}: its exponent, E and the best sizes cannot be told "
                       f"from fewer than {FEWEST_SIZES}")  # fmt: skip
    return out


def together(runs: Table) -> bool:
    """Whether parameters and tokens cannot be told apart."""
    return bool(abs(np.corrcoef(np.log(runs.params), np.log(runs.tokens))[0, 1]) > TOGETHER)


def _of_units(runs: Table) -> Iterator[str]:
    if runs.params.max() < SMALLEST_MODEL:
        yield (f"the largest run has {runs.params.max():.3g} parameters: if they are millions or billions, the best "
               "sizes, tokens and FLOP are in other units, too")  # fmt: skip
    if runs.loss.min() > LARGEST_LOSS:
        yield f"no loss is below {runs.loss.min():.3g}: are they nats a token?"


def _of_parameters(law: SizeLaw, runs: Table, theta: Array, draws: Array) -> Iterator[str]:
    values = law.named(theta)
    if law is not KAPLAN and values["E"] < 0.05 * runs.loss.min():
        yield f"E runs to {values['E']:.2g}: these runs do not tell the irreducible loss"
    # Where the fit is flat no bootstrap need move: its Hessian says so.
    flat = np.linalg.norm(loose(law, runs, theta, np.inf), axis=1)
    for place, (name, log) in enumerate(zip(law.names, law.logarithms, strict=True)):
        column = np.exp(draws[:, place]) if log else draws[:, place]
        low, high = np.quantile(column, [0.05, 0.95]) if len(column) else (values[name], values[name])
        if not log and high > 2 * max(low, 1e-9):
            yield f"{name} is poorly determined: 90% of the bootstrap in [{low:.2g}, {high:.2g}]"
        elif not log and 3 * NINETY * flat[place] > values[name]:
            yield f"{name} is poorly determined: the fit is nearly the same with others (its sd is {flat[place]:.2g})"
        elif len(draws) >= ENOUGH and not low <= values[name] <= high:
            yield f"{name} {values[name]:.4g} lies outside of its own 90%, [{low:.4g}, {high:.4g}]"


def _of_misfit(law: SizeLaw, runs: Table, theta: Array, test: dict[str, float] | None) -> Iterator[str]:
    missed = np.log(runs.loss) - law.log_loss(theta, runs)
    mean, far = 100 * float(np.abs(np.expm1(-missed)).mean()), len(outliers(law, runs, theta))
    found = []
    if mean > MISFIT:
        found.append(f"the law misses its own runs by {mean:.1f}% on average")
    if far > max(2, MANY * len(missed)):
        found.append(f"{far} of {len(missed)} rows lie far off the law")
    if test is not None and test["median_error"] > MISFIT:
        found.append(f"fitted without the largest runs, it misses them by {test['median_error']:.1f}%")
    if found and (column := _that_tells(runs, missed)) is not None:
        name, groups = column
        found[0] += f" ({name!r} tells {groups} kinds of runs apart: fit each alone?)"
    yield from found


def _that_tells(runs: Table, missed: Array) -> tuple[str, int] | None:
    """The column of kinds of runs that explains most of what the law misses, and how many there are."""
    best, name = TELLS * float(np.abs(missed - np.median(missed)).mean()), None
    for each, kind in runs.kinds.items():
        left = missed.copy()
        for label in np.unique(kind):
            left[kind == label] -= np.median(left[kind == label])
        if (size := float(np.abs(left).mean())) < best:
            best, name = size, each
    return None if name is None else (name, len(np.unique(runs.kinds[name])))


def outliers(law: SizeLaw, runs: Table, theta: Array) -> list[dict[str, Any]]:
    """The runs that lie far off the law, by name, the farthest first."""
    missed = np.log(runs.loss) - law.log_loss(theta, runs)
    robust = max(1.4826 * float(np.median(np.abs(missed - np.median(missed)))), SMALLEST_ERROR / 2)
    places = [int(place) for place in np.argsort(-np.abs(missed)) if abs(missed[place]) > OUTLIER * robust]
    names = runs.names or tuple(f"run {place + 1}" for place in range(len(missed)))
    return [{"run": names[place], "error": 100 * float(np.expm1(missed[place]))} for place in places]


def on_the_largest(law: SizeLaw, runs: Table) -> dict[str, float] | None:
    """The law of the smaller runs against the largest fifth; None where too few are left."""
    group = runs.group if len(runs.group) else np.arange(len(runs.loss))
    labels = np.unique(group)
    order = np.argsort([runs.compute[group == run].max() for run in labels])
    count = max(1, round(HELD * len(order)))
    held = np.isin(group, labels[order[-count:]])
    small = runs.rows(np.flatnonzero(~held))
    if len(small.loss) < len(law.names) + 1:
        return None
    large = runs.rows(np.flatnonzero(held))
    error = np.exp(law.log_loss(fit_sizes(law, small), large)) / large.loss - 1
    return {"runs": float(count), "median_error": 100 * float(np.median(np.abs(error))),
            "mean_error": 100 * float(error.mean())}  # fmt: skip
