"""Which of several runs or data mixtures ends lower, and with what probability: the paper's use of the law."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.fit import standard_noise
from llmtool.methods.temporal_scaling.forecast import Forecast, lower
from llmtool.methods.temporal_scaling.intervals import SMALL, Interval, loss_text, scatter
from llmtool.methods.temporal_scaling.paired import Gap, pair
from llmtool.methods.temporal_scaling.saved import interval_to_json

Array = NDArray[np.float64]
SCHEMA = "llmtool.scaling-compare/1"
HOPELESS = 0.05
"""A run of a sweep whose probability to end lowest is smaller need not go on."""
SHARED = 0.5
"""Share of the variance that runs have in common, because one law errs on them in the same direction.

Draws that were wholly common would take two runs apart with certainty; wholly separate ones would tell nothing of two
mixtures whose curves run in parallel."""


@dataclass(frozen=True)
class Comparison:
    """Draws of the final losses [runs, draws]; what each is apart from the lowest, where the two could be paired."""

    forecasts: Sequence[Forecast]
    draws: Array
    lowest: int
    gaps: tuple[Gap | None, ...]

    def apart(self, place: int) -> Interval:
        """How much higher than the lowest a run ends, with a 90% interval."""
        differences = self.draws[place] - self.draws[self.lowest]
        low, high = np.quantile(differences, [0.05, 0.95])
        return Interval(float(np.median(differences)), float(low), float(high), differences)


def compared(forecasts: Sequence[Forecast], seed: int = 0) -> Comparison:
    """The final losses together, each run set against the one that ends lowest."""
    lowest, tried = int(np.argmin([forecast.final.value for forecast in forecasts])), set[int]()
    while True:
        found = _against(forecasts, lowest, seed)
        tried.add(lowest)
        # Paired, another run may turn out to end lower than the one whose own forecast is lowest.
        lowest = int(np.argmin(np.median(found.draws, axis=1)))
        if lowest in tried:
            return found


def _against(forecasts: Sequence[Forecast], lowest: int, seed: int) -> Comparison:
    """Each run's draws are the lowest one's, moved by what sets the two apart.

    That is the paired law beside the difference of the two forecasts, each with the inverse of its variance; where two
    runs cannot be paired, the forecasts alone.
    """
    draws = ends(forecasts, seed)
    gaps: list[Gap | None] = []
    for place, forecast in enumerate(forecasts):
        gap = pair(forecast, forecasts[lowest]) if place != lowest else None
        gaps.append(gap)
        if gap is not None:
            alone = np.log(draws[place] / draws[lowest])
            weight = alone.var() / (alone.var() + gap.sd**2)
            value = weight * gap.value + (1 - weight) * float(np.median(alone))
            noise = standard_noise(seed + 101 + place)[:, 0]
            draws[place] = draws[lowest] * np.exp(value + np.sqrt(weight) * gap.sd * noise)
    for place, forecast in enumerate(forecasts):
        draws[place] = draws[next(at for at, other in enumerate(forecasts) if _same(forecast, other))]
    return Comparison(forecasts, draws, lowest, tuple(gaps))


def _same(first: Forecast, second: Forecast) -> bool:
    """Whether two logs hold one and the same run."""
    one, other = first.run, second.run
    alike = (one.until, one.horizon, one.goes_on) == (other.until, other.horizon, other.goes_on)
    return alike and np.array_equal(one.steps, other.steps) and np.array_equal(one.loss, other.loss)


def ends(forecasts: Sequence[Forecast], seed: int = 0) -> Array:
    """Draws of the final losses [runs, draws] by each run's own law, with its own noise and a part that all share."""
    common = standard_noise(seed)
    rows = []
    for place, forecast in enumerate(forecasts):
        run, fitted, final = forecast.run, forecast.fit, forecast.final
        if run.goes_on is not None:  # as likely the one as the other
            last, on = forecast.endings.values()
            own = standard_noise(seed + 1 + place)
            # Each run's own draws come from the same numbers: set beside one another, they would cancel out.
            ended = last.value * np.exp(run.end_noise * own[:, 0])
            ahead = np.sqrt(SHARED) * common[:, 1] + np.sqrt(1 - SHARED) * own[:, 1]
            rows.append(np.where(_first_half(len(own)), ended, np.sort(on.draws)[np.argsort(np.argsort(ahead))]))
            continue
        if run.finished:
            rows.append(final.value * np.exp(run.end_noise * standard_noise(seed + 1 + place)[:, 0]))
            continue
        noise = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * standard_noise(seed + 1 + place)
        at = np.array([run.horizon])
        posterior = np.log(fitted.draws(at, noise)[:, 0] / final.value)
        drift = fitted.own_error(at)[0] * noise[:, -1]
        less = lower(fitted, at, len(posterior))[:, 0]
        rows.append(final.value * scatter(posterior, drift, forecast.surprise, less))
    return np.array(rows)


def _first_half(count: int) -> NDArray[np.bool_]:
    """Which draws are of a run that has ended: every other pair, since draws come in pairs of opposite noise."""
    return np.asarray(np.arange(count) % (count // 2) % 2 == 0)


def share_lowest(draws: Array) -> Array:
    """P(each row is the lowest); rows that are equally low share it."""
    lowest = draws == draws.min(axis=0)
    return np.asarray((lowest / lowest.sum(axis=0)).mean(axis=1))


def hopeless(comparison: "Comparison") -> list[int]:
    """Runs that need not go on: hardly ever as low as the lowest. It is none of them itself."""
    draws = comparison.draws
    reach = (draws <= draws.min(axis=0)).mean(axis=1)
    return [place for place, odds in enumerate(reach) if odds < HOPELESS and place != comparison.lowest]


def odds(draws: Array) -> Array:
    """P(row ends below column), draw by draw; one half on the diagonal."""
    below = (draws[:, None] < draws[None]).mean(axis=-1)
    return np.asarray(below + (draws[:, None] == draws[None]).mean(axis=-1) / 2)


def require_comparable(forecasts: Sequence[Forecast], console: Console, *, force: bool = False) -> None:
    """Losses of other sets or tokens cannot be compared, nor ends at other steps; force: the latter are told only."""
    metrics = {forecast.run.metric for forecast in forecasts}
    if len(metrics) > 1:
        raise UserError(f"the runs measure different losses: {', '.join(sorted(metrics))}", hint="give --metric NAME")
    logs = [forecast.run.log for forecast in forecasts]
    hashes = {log.tokenizer for log in logs if log.tokenizer}
    known = not any(forecast.run.open_end or forecast.run.goes_on is not None for forecast in forecasts)
    ends_at = [forecast.run.horizon if known else forecast.run.until for forecast in forecasts]
    amiss = []
    if len(hashes) > 1:
        amiss.append("the runs have different tokenizers, so their losses count other tokens")
    if max(ends_at) > 1.01 * min(ends_at):
        how = "the runs end at" if known else "where the runs end is not known, and they were logged to"
        amiss.append(f"{how} different steps: {', '.join(f'{end:,.0f}' for end in ends_at)}")
    for what in amiss:
        if not force:
            raise UserError(what, hint="--horizon for one end, or --force to compare all the same")
        console.warn(what)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as an object."""
    forecasts, chances = comparison.forecasts, odds(comparison.draws)
    lowest = share_lowest(comparison.draws)
    runs = []
    for place, forecast in enumerate(forecasts):
        gap = comparison.gaps[place]
        runs.append({
            "log": forecast.run.log.name,
            "final_loss": interval_to_json(forecast.final),
            "above_lowest": interval_to_json(comparison.apart(place)),
            "paired": None if gap is None else {
                "law": gap.law, "steps": gap.steps, "sd": gap.sd, "one_peak_rate": gap.alike,
            },
            "law": forecast.fit.name,
            "confident": forecast.confident,
            "doubts": list(forecast.doubts),
            "probability_lowest": float(lowest[place]),
            "probability_below": {
                other.run.log.name: float(chances[place, at]) for at, other in enumerate(forecasts) if at != place
            },
        })  # fmt: skip
    return {
        "schema": SCHEMA, "metric": forecasts[0].run.metric, "lowest": forecasts[comparison.lowest].run.log.name,
        "confident": all(forecast.confident for forecast in forecasts), "runs": runs,
    }  # fmt: skip


def lines(comparison: Comparison) -> list[str]:
    """The comparison for people: a row a run, best first; what is against a forecast below, each doubt once."""
    forecasts, chances = comparison.forecasts, odds(comparison.draws)
    order = sorted(range(len(forecasts)), key=lambda place: comparison.apart(place).value)
    lowest = share_lowest(comparison.draws)
    width = max(len(forecast.run.log.name) for forecast in forecasts)
    out = [f"{'run':<{width}}  {'final loss':<26}{'above the lowest':<28}{'P(lowest)':>9}"]
    for place in order:
        final, apart = forecasts[place].final, comparison.apart(place)
        span = f"{loss_text(final.value)} [{loss_text(final.low)}, {loss_text(final.high)}]"
        form = "+.4f" if final.value >= SMALL else "+.3g"
        above = "" if place == comparison.lowest else f"{apart.value:{form}} [{apart.low:{form}}, {apart.high:{form}}]"
        mark = "" if forecasts[place].confident else " NOT CONFIDENT"
        out.append(f"{forecasts[place].run.log.name:<{width}}  {span:<26}{above:<28}{lowest[place]:>9.2f}{mark}")
    doubts: dict[str, list[str]] = {}
    for place in order:
        for doubt in forecasts[place].doubts:
            doubts.setdefault(doubt, []).append(forecasts[place].run.log.name)
    for doubt, names in doubts.items():
        whose = "all runs" if len(names) == len(forecasts) else ", ".join(names)
        out.append(f"  not confident: {doubt} ({whose})")
    out.append(_paired_line(comparison))
    low = set(hopeless(comparison))
    stop = [forecasts[place].run.log.name for place in order if place in low]
    if len(forecasts) > 2 and stop:
        out.append(f"below {HOPELESS:.0%} to end lowest, and could be stopped: {', '.join(stop)}")
    first, second = (forecasts[place].run.log.name for place in order[:2])
    return [*out, f"P({first} ends below {second}) = {chances[order[0], order[1]]:.2f}"]


def _paired_line(comparison: Comparison) -> str:
    """Where the differences come from."""
    steps = [gap.steps for gap in comparison.gaps if gap is not None]
    count, others = len(steps), len(comparison.forecasts) - 1
    if not count:
        return "differences: of the separate forecasts (no evaluations at the same steps under the same schedule)"
    whole = "" if count == others else f" for {count} of {others} runs; else of the separate forecasts"
    apart = any(gap is not None and not gap.alike for gap in comparison.gaps) and any(
        each.run.schedule is not None and each.run.schedule.decays_after(each.run.until)
        for each in comparison.forecasts
    )
    wide = "; their peak rates differ or are not in the logs, so that the fall may take more off some" if apart else ""
    return f"differences: by a law of their own on {min(steps)} or more common steps{whole}{wide}"
