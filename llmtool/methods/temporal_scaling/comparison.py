"""Which of several runs or data mixtures ends lower, and with what probability: the paper's use of the law."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.fit import standard_noise
from llmtool.methods.temporal_scaling.forecast import Forecast, rate_known
from llmtool.methods.temporal_scaling.intervals import scatter
from llmtool.methods.temporal_scaling.saved import interval_to_json

Array = NDArray[np.float64]
SCHEMA = "llmtool.scaling-compare/1"
SHARED = 0.5
"""Share of the variance that runs have in common, because one law errs on them in the same direction.

Draws that were wholly common would take two runs apart with certainty; wholly separate ones would tell nothing of two
mixtures whose curves run in parallel."""


def ends(forecasts: Sequence[Forecast], seed: int = 0) -> Array:
    """Draws of the final losses [runs, draws], each with its own noise and a part that all share."""
    common = standard_noise(seed)
    rows = []
    for place, forecast in enumerate(forecasts):
        run, fitted, final = forecast.run, forecast.fit, forecast.final
        noise = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * standard_noise(seed + 1 + place)
        posterior = np.log(fitted.draws(np.array([run.horizon]), noise)[:, 0] / final.value)
        drift = fitted.own_error(np.array([run.horizon]))[0] * noise[:, -1]
        rows.append(final.value * scatter(posterior, drift, forecast.backtest.surprise, rate_known(fitted)))
    return np.array(rows)


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
    ends_at = [forecast.run.horizon for forecast in forecasts]
    amiss = []
    if len(hashes) > 1:
        amiss.append("the runs have different tokenizers, so their losses count other tokens")
    if max(ends_at) > 1.01 * min(ends_at):
        amiss.append(f"the runs end at different steps: {', '.join(f'{end:,.0f}' for end in ends_at)}")
    for what in amiss:
        if not force:
            raise UserError(what, hint="--horizon for one end, or --force to compare all the same")
        console.warn(what)


def to_json(forecasts: Sequence[Forecast], draws: Array) -> dict[str, Any]:
    """The comparison as an object."""
    chances = odds(draws)
    lowest = np.argmin(draws, axis=0)
    runs = [
        {
            "log": forecast.run.log.name,
            "final_loss": interval_to_json(forecast.final),
            "law": forecast.fit.name,
            "confident": forecast.confident,
            "doubts": list(forecast.doubts),
            "probability_lowest": float((lowest == place).mean()),
            "probability_below": {
                other.run.log.name: float(chances[place, at]) for at, other in enumerate(forecasts) if at != place
            },
        }
        for place, forecast in enumerate(forecasts)
    ]
    best = int(np.argmin([forecast.final.value for forecast in forecasts]))
    return {
        "schema": SCHEMA, "metric": forecasts[0].run.metric, "lowest": forecasts[best].run.log.name,
        "confident": all(forecast.confident for forecast in forecasts), "runs": runs,
    }  # fmt: skip


def lines(forecasts: Sequence[Forecast], draws: Array) -> list[str]:
    """The comparison for people, best first."""
    order = np.argsort([forecast.final.value for forecast in forecasts])
    lowest, chances = np.argmin(draws, axis=0), odds(draws)
    width = max(len(forecast.run.log.name) for forecast in forecasts)
    out = [f"{'run':<{width}}  {'final loss':<28}{'P(lowest)':>10}"]
    for place in order:
        forecast, final = forecasts[place], forecasts[place].final
        span = f"{final.value:.4f}  [{final.low:.4f}, {final.high:.4f}]"
        doubt = "" if forecast.confident else f"  NOT CONFIDENT: {'; '.join(forecast.doubts)}"
        out.append(f"{forecast.run.log.name:<{width}}  {span:<28}{(lowest == place).mean():>10.2f}{doubt}")
    first, second = (forecasts[place].run.log.name for place in order[:2])
    return [*out, f"P({first} ends below {second}) = {chances[order[0], order[1]]:.2f}"]
