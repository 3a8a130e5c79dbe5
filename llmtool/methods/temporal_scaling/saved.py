"""Fits as JSON: what `fit` prints and keeps, and reading it back to predict elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.record import Record
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.choice import TEMPORAL, Fitted
from llmtool.methods.temporal_scaling.fit import Fit
from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.intervals import Interval
from llmtool.methods.temporal_scaling.laws import LAWS, POWER
from llmtool.methods.temporal_scaling.positions import FORMS, TemporalFit
from llmtool.methods.temporal_scaling.schedule import AMISS, Schedule

SCHEMA = "llmtool.scaling-fit/1"
SMALLEST = 1e-12
"""Of a step, which is divided by."""
ELSEWHERE = 4e-3
"""Relative sd of a final loss under another schedule: three public models fitted on three schedules each and asked for
the ends of six others were off by 0.3% to 0.7% where these had the longest decays."""


def to_json(forecast: Forecast, targets: list[float]) -> dict[str, Any]:
    """The forecast as an object; `fit` in it is what `from_json` reads."""
    run, fitted, test = forecast.run, forecast.fit, forecast.backtest
    power = forecast.backtests[POWER.name]
    return {
        "schema": SCHEMA,
        "log": run.log.name,
        "metric": run.metric,
        "fitted_from": run.cut,
        "fitted_until": run.until,
        "horizon": None if run.open_end or run.supposed else run.horizon,
        "goes_on": run.goes_on,
        "finished": run.finished and run.goes_on is None,
        "jumps": [{"step": change.step, "size": float(np.expm1(change.size))} for change in run.changes],
        "final_loss": None if run.open_end else interval_to_json(forecast.final),
        "ahead": [{"step": step, **interval_to_json(forecast.at(step))} for step in run.ahead],
        "endings": {name: interval_to_json(each) for name, each in (forecast.endings | forecast.gains).items()},
        "confident": forecast.confident,
        "doubts": list(forecast.doubts),
        "law": fitted.name,
        "formula": fitted.formula,
        "why": forecast.why,
        "parameters": fitted.parameters(),
        "asymptote": fitted.asymptote(),
        "backtest": {
            "error": _finite(test.error),
            "mape": _finite(test.mape),
            "skill_over_last_value": test.skill,
            "skill_over_power_law": skill_over(test, power),
            "laws": {name: _finite(each.error) for name, each in forecast.backtests.items()},
        },
        "earlier_runs": _earlier(forecast),
        "targets": [target_to_json(forecast, target) for target in targets],
        "notes": list(run.log.notes),
        "fit": fit_to_json(fitted, forecast.surprise),
    }


def interval_to_json(value: Interval) -> dict[str, float]:
    """A value and its 90% interval."""
    return {"value": value.value, "low": value.low, "high": value.high}


def target_to_json(forecast: Forecast, target: float) -> dict[str, float | None]:
    """When a loss is reached: step with the ends of its 90% interval, tokens, seconds from the last step
    looked at; None where it is not before the horizon."""
    step = forecast.steps_to(target)
    earliest, latest = forecast.steps_between(target)
    facts: dict[str, float | None] = {
        "loss": target, "step": step, "step_low": earliest, "step_high": latest, "tokens": None, "seconds": None,
    }  # fmt: skip
    if step is not None:
        facts |= {"tokens": forecast.run.tokens(step), "seconds": forecast.run.seconds(step)}
    return facts


def skill_over(test: Backtest, other: Backtest) -> float:
    """1 for a perfect law, 0 for one as good as the other."""
    return 1 - test.error / max(other.error, 1e-12) if test.errors and other.errors else 0.0


def _earlier(forecast: Forecast) -> dict[str, Any] | None:
    if not isinstance(forecast.fit, Fit) or not forecast.fit.earlier:
        return None
    missed = None if forecast.trial is None else list(forecast.trial.errors)
    return {"runs": forecast.fit.earlier, "missed": missed, "contradicted": forecast.contradicted}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def fit_to_json(fitted: Fitted, surprise: float) -> dict[str, Any]:
    """What predicting again needs."""
    facts: dict[str, Any] = {
        "law": fitted.name,
        "horizon": fitted.horizon,
        "until": fitted.until,
        "surprise": surprise,
        "elsewhere": fitted.own_error(np.array([fitted.until]))[0],
        "schedule": fitted.schedule.to_json() if fitted.schedule else None,
    }
    if isinstance(fitted, Fit):
        return facts | {
            "theta": fitted.theta.tolist(), "spread": fitted.spread.tolist(), "reference": fitted.reference,
            "earlier": fitted.earlier, "other": None if fitted.other is None else fitted.other.tolist(),
            "share": fitted.share, "steeper": fitted.steeper,
        }  # fmt: skip
    assert isinstance(fitted, TemporalFit)
    return facts | {
        "form": fitted.form, "k": fitted.k, "positions": fitted.positions,
        "coefficients": fitted.coefficients.tolist(), "spread": fitted.spread.tolist(),
        "together": fitted.together,
    }  # fmt: skip


def load(path: Path) -> tuple[Fitted, float]:
    """A saved fit, and the surprise of its back-test."""
    whole = read_json_object(path)
    if whole.get("schema") != SCHEMA:
        raise UserError("not a saved fit", where=str(path), hint="written by: llmtool scaling fit LOG -o FILE")
    facts = Record(whole, str(path)).record("fit")
    return _from_json(facts), facts.real("surprise", low=0)


def _from_json(facts: Record) -> Fitted:
    schedule = None if facts.facts.get("schedule") is None else _schedule(facts.record("schedule"))
    horizon, until = facts.real("horizon", low=SMALLEST), facts.real("until", low=SMALLEST)
    elsewhere = facts.real("elsewhere", low=0, default=0.0)
    law = facts.choice("law", (TEMPORAL, *LAWS))
    if law == TEMPORAL:
        form = facts.choice("form", tuple(FORMS))
        columns = 1 + len(FORMS[form])
        coefficients, spread = array(facts, "coefficients", (2, columns)), array(facts, "spread", (2, columns, columns))
        return TemporalFit(form, facts.real("k", low=0), facts.whole("positions", low=1), coefficients, spread, horizon,
                           schedule, until, elsewhere, facts.real("together", low=-1, high=1, default=0.0))  # fmt: skip
    if schedule is None and LAWS[law].needs_schedule:
        raise UserError(f"the law {law} needs a schedule", where=facts.where)
    size = 1 + len(LAWS[law].parameters)
    reference = None if facts.facts.get("reference") is None else facts.real("reference", low=SMALLEST)
    theta, spread = array(facts, "theta", (size,)), array(facts, "spread", (size, size))
    earlier = facts.whole("earlier", low=0, default=0)
    other = None if facts.facts.get("other") is None else array(facts, "other", (size,))
    share = facts.real("share", low=0, high=2, default=0.0)
    steeper = facts.real("steeper", low=0, default=0.0)
    return Fit(
        LAWS[law], theta, spread, horizon, schedule, until, reference, elsewhere, earlier, 0.0, other, share, steeper
    )  # fmt: skip


def _schedule(facts: Record) -> Schedule:
    steps, eta = facts.reals("steps", low=0), facts.reals("eta", low=0)
    if len(steps) != len(eta) or len(steps) < 2 or any(b <= a for a, b in pairwise(steps)) or not any(eta):
        raise UserError("steps and eta are no schedule: as many of both, steps that rise", where=facts.where)
    updates = facts.real("updates", low=SMALLEST, default=1.0)
    peak = None if facts.facts.get("peak") is None else facts.real("peak", low=SMALLEST)
    return Schedule(np.array(steps), np.array(eta), facts.real("warmup", low=0), updates=updates, peak=peak)


def array(facts: Record, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Lists of finite numbers in lists, as an array of a shape; -1 in the first place is any length."""
    values: list[Any] = facts.items(key)
    wanted = shape if shape[0] >= 0 else (len(values), *shape[1:])
    right = len(values) == wanted[0]
    for size in wanted[1:]:
        right = right and all(isinstance(value, list) and len(value) == size for value in values)
        values = [inner for value in values for inner in value] if right else values
    if not right:
        raise UserError(f"{key} is not of shape {list(wanted)}", where=facts.where)
    flat = Record({key: values}, facts.where).reals(key, length=int(np.prod(wanted)))
    return np.array(flat).reshape(wanted)


def refuse_no_number(rows: Sequence[Mapping[str, float]], where: str) -> None:
    """A law whose numbers are in order may still run to infinity, or to nothing: no prediction is better than that."""
    for row in rows:
        if not all(np.isfinite(value) for value in row.values()) or row["low"] <= 0:
            what = f"predicts {row['value']:g} [{row['low']:g}, {row['high']:g}], which is no loss"
            raise UserError(what, where=where, hint="was the file edited? fit again")


def elsewhere(fitted: Fitted, schedule: Schedule) -> Fitted:
    """The same model and data under another schedule: only the laws that know the rate can tell."""
    if not isinstance(fitted, Fit) or not fitted.knows_rate or fitted.schedule is None:
        raise UserError(f"the law {fitted.name!r} knows no schedule, so it cannot tell another one",
                        hint="fit with --law cooldown or mpl")  # fmt: skip
    own, other = fitted.schedule.peak, schedule.peak
    if own and other and not 1 - AMISS < other / own < 1 + AMISS:
        raise UserError(f"--peak {other:g} and a fit of a run whose peak was {own:g}: it tells no other one",
                        hint="leave --peak out")  # fmt: skip
    reference = fitted.reference or fitted.schedule.total
    return replace(
        fitted,
        horizon=schedule.horizon,
        schedule=replace(schedule, updates=fitted.schedule.updates, peak=fitted.schedule.peak),
        reference=reference,
        elsewhere=max(ELSEWHERE, fitted.elsewhere),
    )
